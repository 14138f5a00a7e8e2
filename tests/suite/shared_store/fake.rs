//! The few commands of a Redis server that the shared store sends, with faults at will: for tests without a server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How it behaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Mood {
    Well,
    /// Takes commands and says nothing.
    Silent,
    /// Answers after so long.
    Slow(Duration),
    /// Its memory is full.
    Full,
    /// Answers with the first octets, then with the second ones again and again, without end.
    Endless(&'static [u8], &'static [u8]),
}

/// An endless answer ends here all the same: then nobody has stopped it.
const FLOOD_BYTES: usize = 256 << 20;

#[derive(Clone)]
pub struct Fake {
    pub url: String,
    pub values: Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>,
    mood: Arc<Mutex<Mood>>,
    /// Octets that each endless answer got rid of before its connection ended.
    pub floods: Arc<Mutex<Vec<usize>>>,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (values, floods) = Default::default();
        let fake = Self { url, values, mood: Arc::new(Mutex::new(Mood::Well)), floods };
        let served = fake.clone();
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(served.clone().serve(stream));
            }
        });
        fake
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    pub fn value(&self, domain: &str) -> Option<Vec<u8>> {
        self.values.lock().get(key(domain).as_bytes()).cloned()
    }

    pub fn put(&self, domain: &str, value: Vec<u8>) {
        self.values.lock().insert(key(domain).into_bytes(), value);
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(command) = read_command(&mut stream).await {
            let mood = *self.mood.lock();
            match mood {
                Mood::Silent => std::future::pending().await,
                Mood::Slow(wait) => tokio::time::sleep(wait).await,
                Mood::Endless(first, again) => return self.flood(stream, first, again).await,
                Mood::Well | Mood::Full => {}
            }
            let reply = self.reply(&command, mood);
            if stream.write_all(&reply).await.is_err() {
                return;
            }
        }
    }

    async fn flood(self, mut stream: BufReader<TcpStream>, first: &[u8], again: &[u8]) {
        let much = again.repeat(65_536 / again.len());
        let mut poured = 0;
        if stream.write_all(first).await.is_ok() {
            while poured < FLOOD_BYTES && stream.write_all(&much).await.is_ok() {
                poured += much.len();
            }
        }
        self.floods.lock().push(poured);
    }

    /// As if it were a sentinel or a node, too: everything is here.
    fn topology(&self, command: &[Vec<u8>]) -> Vec<u8> {
        let (host, port) = self.url.trim_start_matches("redis://").split_once(':').unwrap();
        match command[0].as_slice() {
            b"SENTINEL" => format!("*2\r\n${}\r\n{host}\r\n${}\r\n{port}\r\n", host.len(), port.len()).into_bytes(),
            _ => format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n${}\r\n{host}\r\n:{port}\r\n", host.len()).into_bytes(),
        }
    }

    fn reply(&self, command: &[Vec<u8>], mood: Mood) -> Vec<u8> {
        let mut values = self.values.lock();
        match (command[0].as_slice(), &command[1..]) {
            (b"GETRANGE", [key, ..]) => {
                let value = values.get(key).cloned().unwrap_or_default();
                [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat()
            }
            (b"SET", _) if mood == Mood::Full => {
                b"-OOM command not allowed when used memory > 'maxmemory'.\r\n".to_vec()
            }
            (b"SET", [key, value, b, _]) if b == b"PXAT" => {
                values.insert(key.clone(), value.clone());
                b"+OK\r\n".to_vec()
            }
            (b"DEL", [key]) => format!(":{}\r\n", i32::from(values.remove(key).is_some())).into_bytes(),
            (b"SENTINEL" | b"CLUSTER", _) => self.topology(command),
            _ => b"-ERR unknown command\r\n".to_vec(),
        }
    }
}

pub fn key(domain: &str) -> String {
    format!("postseal:1:sts:{domain}")
}

/// An array of bulk strings; nothing at the end of the connection.
async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let count = read_number(stream, '*').await?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let mut part = vec![0; read_number(stream, '$').await? + 2];
        stream.read_exact(&mut part).await.ok()?;
        part.truncate(part.len() - 2);
        parts.push(part);
    }
    Some(parts)
}

async fn read_number(stream: &mut BufReader<TcpStream>, mark: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(mark)?.parse().ok()
}
