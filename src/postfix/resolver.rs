//! Whether the resolvers of a `resolv.conf` validate: the question that Postfix itself asks (`dnssec_probe`), put to
//! each of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Resolvers that libresolv takes from a file (resolv.conf(5), MAXNS).
const MOST_RESOLVERS: usize = 3;
/// Longest file that is read.
const MOST_OCTETS: u64 = 64 * 1024;
/// How long one of them may take, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
/// Where resolvers listen; `resolv.conf` cannot say otherwise.
pub const PORT: u16 = 53;

/// What a resolver makes of a question whose answer is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It says that the answer is authentic.
    Validates,
    /// It answers, and says nothing of the kind.
    DoesNotValidate,
    /// It answers with an error.
    Fails,
    /// Nothing comes back.
    Silent,
}

/// The resolvers that a `resolv.conf` names; without any, libresolv asks this host.
pub fn named_in(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next())??;
        // A zone index does not matter here: such an address is on this link.
        address.split('%').next()?.parse().ok()
    };
    let named: Vec<IpAddr> = text.lines().filter_map(address).take(MOST_RESOLVERS).collect();
    if named.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { named }
}

/// Reads a `resolv.conf` and asks each resolver in it, side by side; done within four seconds.
pub async fn examine(resolv_conf: &Path, port: u16) -> std::io::Result<Vec<(IpAddr, Manner)>> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(resolv_conf)?.take(MOST_OCTETS).read_to_string(&mut text)?;
    let probes = named_in(&text).into_iter().map(|address| async move { (address, probe(address, port).await) });
    Ok(futures_util::future::join_all(probes).await)
}

/// Asks one resolver for the root's name servers, and looks at the AD bit of the answer (RFC 6840 §5.7).
pub async fn probe(resolver: IpAddr, port: u16) -> Manner {
    for _ in 0..TRIES {
        if let Ok(Ok(manner)) = timeout(PATIENCE, ask(SocketAddr::new(resolver, port))).await {
            return manner;
        }
    }
    Manner::Silent
}

async fn ask(resolver: SocketAddr) -> std::io::Result<Manner> {
    let local: IpAddr =
        if resolver.is_ipv6() { std::net::Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(resolver).await?;
    let id: [u8; 2] = rand::random();
    socket.send(&question(id)).await?;
    let mut buffer = [0; 4_096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(manner) = read(buffer.get(..length).unwrap_or_default(), id) {
            return Ok(manner);
        }
    }
}

/// The name, type and class of the question: `. NS IN`.
const QUESTION: [u8; 5] = [0, 0, 2, 0, 1];

/// RD and AD are set, as by libresolv with `trust-ad`, and DO in EDNS with 1232 octets.
fn question(id: [u8; 2]) -> Vec<u8> {
    let header = [0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
    let edns = [0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0];
    [&id[..], &header, &QUESTION, &edns].concat()
}

/// What an answer says; nothing where it is no answer to the question.
fn read(message: &[u8], id: [u8; 2]) -> Option<Manner> {
    let [i0, i1, flags, codes, ..] = *message else { return None };
    let is_response = flags & 0x80 != 0;
    if [i0, i1] != id || !is_response || message.get(12..17).is_some_and(|question| question != QUESTION) {
        return None;
    }
    Some(match (codes & 0x0f, codes & 0x20 != 0) {
        (0, true) => Manner::Validates,
        (0, false) => Manner::DoesNotValidate,
        _ => Manner::Fails,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_three_resolvers_count_and_without_any_it_is_this_host() {
        for (text, expected) in [
            ("", &["127.0.0.1"][..]),
            ("# nameserver 192.0.2.9\nsearch example.com\n", &["127.0.0.1"]),
            ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", &["192.0.2.1", "2001:db8::1"]),
            ("nameserver fe80::1%eth0\n", &["fe80::1"]),
            ("nameserver nonsense\nnameserver\n nameserver 192.0.2.1 # ours\n", &["192.0.2.1"]),
            (
                "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n",
                &["1.1.1.1", "1.1.1.2", "1.1.1.3"],
            ),
        ] {
            let found: Vec<_> = named_in(text).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    /// A resolver that answers each question with these flag octets, or never.
    async fn resolver(flags: Option<[u8; 2]>) -> (u16, tokio::task::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let port = socket.local_addr().expect("an address").port();
        let serve = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let Some([first, second]) = flags else { continue };
                let mut answer = buffer[..length].to_vec();
                (answer[2], answer[3]) = (first, second);
                // Something else first: neither is an answer to the question.
                let mut forged = answer.clone();
                forged[0] ^= 0xff;
                forged[3] ^= 0x20;
                let _ = socket.send_to(&forged, peer).await;
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        (port, serve)
    }

    #[tokio::test]
    async fn a_resolver_is_known_by_the_ad_bit_of_its_answer() {
        for (flags, expected) in [
            (Some([0x81, 0xa0]), Manner::Validates),
            (Some([0x81, 0x80]), Manner::DoesNotValidate),
            (Some([0x81, 0x82]), Manner::Fails),
            (Some([0x81, 0x85]), Manner::Fails),
        ] {
            let (port, serve) = resolver(flags).await;
            assert_eq!(probe(Ipv4Addr::LOCALHOST.into(), port).await, expected);
            serve.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_resolver_is_given_up_after_four_seconds() {
        let (port, serve) = resolver(None).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(probe(Ipv4Addr::LOCALHOST.into(), port).await, Manner::Silent);
        assert_eq!(begun.elapsed().as_secs(), 4);
        serve.abort();
    }

    #[tokio::test]
    async fn every_resolver_of_the_file_is_asked_and_no_other() {
        let (port, serve) = resolver(Some([0x81, 0xa0])).await;
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "nameserver 127.0.0.1\noptions edns0\n").expect("written");
        let found = examine(file.path(), port).await.expect("read");
        assert_eq!(found, [(Ipv4Addr::LOCALHOST.into(), Manner::Validates)]);
        assert!(examine(Path::new("/nonexistent/resolv.conf"), port).await.is_err());
        serve.abort();
    }
}
