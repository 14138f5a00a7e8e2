//! The least that a socketmap server can take: it reads, counts requests, and answers each with the same words.
//!
//! One thread, no lookups, no limits. What it takes is the kernel's share, on this machine, in this run; what a server
//! takes beyond it is the server's own.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::connection::decode;

/// What everybody is told.
const REPLY: &[u8] = b"12:OK dane-only,";
const LISTENER: Token = Token(usize::MAX);

/// Says where it listens, and serves until killed.
pub fn run(address: SocketAddr) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", listener.local_addr()?);
    let (mut clients, mut count) = (HashMap::new(), 0);
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(count), Interest::READABLE)?;
                    clients.insert(Token(count), Client { stream, input: vec![0; 64 * 1024], filled: 0 });
                    count += 1;
                }
            } else if clients.get_mut(&event.token()).is_some_and(|client| client.serve().is_err()) {
                clients.remove(&event.token());
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
}

impl Client {
    /// Reads until nothing is left and answers what is complete; an error where the client is gone. Replies are short:
    /// they always fit into the socket, or else the client does not read, and goes.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let space = &mut self.input[self.filled..];
            let wanted = space.len();
            let count = match self.stream.read(space) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.filled += count;
            let (mut start, mut replies) = (0, Vec::new());
            while let Some((_, size)) = decode(&self.input[start..self.filled])? {
                replies.extend_from_slice(REPLY);
                start += size;
            }
            self.input.copy_within(start..self.filled, 0);
            self.filled -= start;
            self.stream.write_all(&replies)?;
            if count < wanted {
                return Ok(());
            }
        }
    }
}
