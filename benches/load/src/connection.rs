//! One connection to the server: requests out, replies in, the time between them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use mio::event::Source;

/// Where the server listens: `host:port`, or `unix:` and a path.
#[derive(Clone, Debug)]
pub enum Server {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Server {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|error| format!("{error}")),
        }
    }
}

enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

/// A reply that came.
pub struct Arrived<'a> {
    pub text: &'a [u8],
    pub took: Duration,
    pub fresh: bool,
}

/// See the module.
pub struct Connection {
    stream: Stream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    /// When each unanswered request left, and whether it was for a fresh name.
    waiting: VecDeque<(Instant, bool)>,
}

impl Connection {
    /// Connects, and waits until that is done.
    pub fn open(server: &Server) -> io::Result<Self> {
        let stream = match server {
            Server::Tcp(address) => {
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Stream::Tcp(mio::net::TcpStream::from_std(stream))
            }
            Server::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Stream::Unix(mio::net::UnixStream::from_std(stream))
            }
        };
        Ok(Self { stream, input: vec![0; 128 * 1024], filled: 0, output: Vec::new(), waiting: VecDeque::new() })
    }

    pub fn source(&mut self) -> &mut dyn Source {
        match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }

    /// Requests that wait for their reply.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a request into the batch that [`Connection::send`] sends; `now` is when it counts as sent.
    pub fn push(&mut self, request: &[u8], fresh: bool, now: Instant) {
        self.output.extend_from_slice(request);
        self.waiting.push_back((now, fresh));
    }

    /// Sends what the socket takes; true where nothing is left.
    pub fn send(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            let written = match &mut self.stream {
                Stream::Tcp(stream) => stream.write(&self.output),
                Stream::Unix(stream) => stream.write(&self.output),
            };
            match written {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads once, as much as is there, and hands out every complete reply; true where there may be more to read.
    pub fn receive(&mut self, mut take: impl FnMut(Arrived<'_>)) -> io::Result<bool> {
        let space = &mut self.input[self.filled..];
        let wanted = space.len();
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(space),
            Stream::Unix(stream) => stream.read(space),
        };
        let count = match read {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.filled += count;
        let now = Instant::now();
        let mut start = 0;
        while let Some((text, size)) = decode(&self.input[start..self.filled])? {
            let (sent, fresh) = self.waiting.pop_front().ok_or_else(|| wrong("a reply that nobody asked for"))?;
            take(Arrived { text, took: now - sent, fresh });
            start += size;
        }
        self.input.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(count == wanted)
    }
}

/// The payload of the netstring that `octets` begin with, and its length in all.
pub fn decode(octets: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    let Some(colon) = octets.iter().take(8).position(|octet| *octet == b':') else {
        return if octets.len() < 8 { Ok(None) } else { Err(wrong("not a netstring")) };
    };
    let digits = std::str::from_utf8(&octets[..colon]).map_err(|_| wrong("not a netstring"))?;
    let length: usize = digits.parse().map_err(|_| wrong("not a netstring"))?;
    let size = colon + length + 2;
    match octets.get(size - 1) {
        None => Ok(None),
        Some(b',') => Ok(Some((&octets[colon + 1..size - 1], size))),
        Some(_) => Err(wrong("a netstring without its comma")),
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_netstrings_whole_or_awaited() {
        assert_eq!(decode(b"9:NOTFOUND ,4:x").unwrap(), Some((&b"NOTFOUND "[..], 12)));
        for part in [&b""[..], b"12", b"9:NOTFO", b"9:NOTFOUND "] {
            assert_eq!(decode(part).unwrap(), None);
        }
        for wrong in [&b"OK dane-only"[..], b"x:", b"1:xy"] {
            assert!(decode(wrong).is_err());
        }
    }
}
