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
}

#[derive(Clone)]
pub struct Fake {
    pub url: String,
    pub values: Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>,
    mood: Arc<Mutex<Mood>>,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let fake = Self { url, values: Arc::default(), mood: Arc::new(Mutex::new(Mood::Well)) };
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
                Mood::Well | Mood::Full => {}
            }
            let reply = self.reply(&command, mood);
            if stream.write_all(&reply).await.is_err() {
                return;
            }
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
