//! What clients and strangers cannot do: take all places, hold connections open, make us shout at others.

use std::net::IpAddr;

use tokio::io::copy;
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::*;
use crate::limits;

/// A connection from this address of the loopback network.
async fn connect_from(source: &str, service: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{source}:0").parse().expect("an address")).expect("bound");
    socket.connect(service).await.expect("connected")
}

/// Waits for the end of a connection; gives the octets that came before it.
async fn rest(stream: &mut TcpStream) -> u64 {
    copy(stream, &mut tokio::io::sink()).await.unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_one_that_waits_for_an_answer_is_not() {
    let service = start("127.0.0.0/8").await;
    let begun = Instant::now();
    let mut idle = TcpStream::connect(service.address).await.expect("connected");
    write(&mut idle, &query("secure.example.", 1, true)).await;
    assert_eq!(read(&mut idle).await.id, 1);
    assert_eq!(rest(&mut idle).await, 0);
    assert_eq!(begun.elapsed().as_secs(), limits::DNS_TCP_IDLE.as_secs());
    // Half a message does not keep it open, either.
    let mut half = TcpStream::connect(service.address).await.expect("connected");
    half.write_all(&[0]).await.expect("written");
    assert_eq!(rest(&mut half).await, 0);
    let mut waiting = TcpStream::connect(service.address).await.expect("connected");
    write(&mut waiting, &query("slow.example.", 2, true)).await;
    tokio::time::sleep(3 * limits::DNS_TCP_IDLE).await;
    service.slow.notify_one();
    assert_eq!(read(&mut waiting).await.id, 2);
}

#[tokio::test]
async fn a_stranger_gets_refused_over_tcp_once_and_takes_no_clients_place() {
    let service = start("127.0.0.1/32").await;
    let mut silent = Vec::new();
    for _ in 0..limits::DNS_STRANGERS {
        silent.push(connect_from("127.0.0.2", service.address).await);
    }
    let mut one_more = connect_from("127.0.0.3", service.address).await;
    assert_eq!(rest(&mut one_more).await, 0, "closed at once");
    let mut client = connect_from("127.0.0.1", service.address).await;
    write(&mut client, &query("secure.example.", 1, true)).await;
    assert_eq!(read(&mut client).await.rcode, Rcode::NoError);
    let mut stranger = silent.pop().expect("a connection");
    write(&mut stranger, &query("secure.example.", 2, true)).await;
    let answer = read(&mut stranger).await;
    assert_eq!((answer.rcode, info_code(&answer)), (Rcode::Refused, Some(18)));
    assert_eq!(rest(&mut stranger).await, 0, "one answer, then the end");
    for stream in &mut silent {
        assert_eq!(rest(stream).await, 0, "a stranger who asks nothing is not kept");
    }
}

#[tokio::test]
async fn one_client_has_so_many_connections_and_no_more() {
    let service = start("127.0.0.0/8").await;
    let mut open = Vec::new();
    for _ in 0..limits::DNS_CONNECTIONS_PER_CLIENT {
        let mut stream = connect_from("127.0.0.1", service.address).await;
        write(&mut stream, &query("secure.example.", 1, true)).await;
        assert_eq!(read(&mut stream).await.id, 1);
        open.push(stream);
    }
    let mut one_more = connect_from("127.0.0.1", service.address).await;
    assert_eq!(rest(&mut one_more).await, 0);
    let mut other = connect_from("127.0.0.2", service.address).await;
    write(&mut other, &query("secure.example.", 2, true)).await;
    assert_eq!(read(&mut other).await.id, 2);
}

#[tokio::test]
async fn one_client_has_so_many_queries_under_way_and_what_is_at_hand_is_answered_still() {
    let script = Script::default();
    let slow = Arc::clone(&script.slow);
    let service = Service::new(script, allowing("127.0.0.0/8"), Clock::system());
    let (greedy, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
    let udp = Transport::Udp { loopback: true };
    let mut waiting = tokio::task::JoinSet::new();
    for id in 0..limits::DNS_QUERIES_PER_CLIENT {
        let service = Arc::clone(&service);
        waiting.spawn(async move { service.answer(&query("slow.example.", id as u16, true), greedy, udp).await });
    }
    while service.admission.queries() < limits::DNS_QUERIES_PER_CLIENT {
        tokio::task::yield_now().await;
    }
    let ask = async |name: &str, client| {
        let answer = service.answer(&query(name, 7, true), client, udp).await.expect("an answer");
        Message::parse(&answer).expect("a message")
    };
    let answer = ask("secure.example.", greedy).await;
    assert_eq!((answer.rcode, info_code(&answer)), (Rcode::ServFail, Some(0)));
    assert_eq!(ask("insecure.example.", greedy).await.rcode, Rcode::NoError, "needs no place");
    assert_eq!(ask("secure.example.", other).await.rcode, Rcode::NoError);
    slow.notify_waiters();
    while let Some(answered) = waiting.join_next().await {
        assert!(answered.expect("no panic").is_some());
    }
    assert_eq!(ask("secure.example.", greedy).await.rcode, Rcode::NoError);
}

#[tokio::test(start_paused = true)]
async fn who_asks_too_fast_from_elsewhere_is_sent_to_tcp_with_an_answer_no_larger_than_the_question() {
    let service = Service::new(Script::default(), allowing("10.0.0.0/8"), Clock::system());
    let client: IpAddr = [10, 0, 0, 1].into();
    let asked = query("insecure.example.", 9, true);
    let (mut full, mut put_off, mut silent) = (0, 0, 0);
    for _ in 0..3 * limits::DNS_ANSWERS_PER_SECOND {
        match service.answer(&asked, client, Transport::Udp { loopback: false }).await {
            None => silent += 1,
            Some(octets) => {
                let answer = Message::parse(&octets).expect("a message");
                if answer.truncated {
                    assert!(octets.len() <= asked.len() && answer.answer.is_empty());
                    put_off += 1;
                } else {
                    full += 1;
                }
            }
        }
    }
    assert_eq!((full, put_off + silent), (limits::DNS_ANSWERS_PER_SECOND, 2 * limits::DNS_ANSWERS_PER_SECOND));
    assert!(put_off > 0 && silent > 0, "{put_off} {silent}");
    assert!(service.answer(&asked, client, Transport::Tcp).await.is_some(), "TCP has no such limit");
}

#[tokio::test]
async fn each_of_several_addresses_is_served_over_udp_and_tcp() {
    let wanted = ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"].map(|address| address.parse().expect("an address"));
    let sockets = Sockets::bind(&wanted).expect("bound");
    let addresses = sockets.addresses();
    // Without IPv6 here, that address is left out.
    assert_eq!(addresses.len() + sockets.left_out.len(), wanted.len());
    // IPv6 clients are strangers here: that, too, is an answer.
    let service = Service::new(Script::default(), allowing("127.0.0.0/8"), Clock::system());
    let serving = tokio::spawn(run(sockets, service, std::future::pending()));
    for address in addresses {
        let expected = if address.is_ipv4() { Rcode::NoError } else { Rcode::Refused };
        let socket = UdpSocket::bind((address.ip(), 0)).await.expect("a socket");
        socket.connect(address).await.expect("connected");
        socket.send(&query("secure.example.", 1, true)).await.expect("sent");
        let mut buffer = [0; 2_000];
        let length = socket.recv(&mut buffer).await.expect("an answer");
        assert_eq!(Message::parse(&buffer[..length]).expect("a message").rcode, expected, "{address} over UDP");
        let mut stream = TcpStream::connect(address).await.expect("connected");
        write(&mut stream, &query("secure.example.", 2, true)).await;
        assert_eq!(read(&mut stream).await.rcode, expected, "{address} over TCP");
    }
    serving.abort();
}
