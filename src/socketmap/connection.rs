//! One connection: requests in, replies out in the same order, everything bounded.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};

use super::netstring::{self, Malformed};
use super::registry::Slot;
use super::request::{Framing, Peer, Reply, Request};
use super::stream::{Rewound, Stream};
use super::{Answer, BoxFuture, Service};
use crate::clock::{Clock, Instant};
use crate::limits;

/// How a connection ended; for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("malformed request: {0}")]
    Malformed(#[from] Malformed),
    #[error("idle")]
    Idle,
    #[error("replies not read")]
    SlowReader,
    #[error("request not completed in time")]
    SlowWriter,
    #[error("made room for another connection")]
    MadeRoom,
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
}

/// Serves one connection to its end: the peer's, a limit's, or after `closing` that of what was asked.
pub(super) async fn serve<S: Service>(
    mut stream: Stream,
    slot: Slot,
    service: Arc<S>,
    clock: Clock,
    mut closing: watch::Receiver<bool>,
) -> Result<(), End> {
    let mut input = BytesMut::with_capacity(limits::SOCKETMAP_INPUT_BYTES);
    if !first_octets(&mut stream, &mut input, &slot, &mut closing).await? {
        return Ok(());
    }
    if input.first().is_some_and(u8::is_ascii_alphabetic) {
        slot.busy();
        let mut http = service.http(Rewound::new(input, stream));
        tokio::select! {
            () = &mut http => {}
            () = closed(&mut closing) => {
                // A scrape that has begun takes milliseconds; more is not waited for.
                let _ = timeout(limits::HTTP_DRAIN, http).await;
            }
        }
        return Ok(());
    }
    let peer = stream.peer();
    let now = clock.instant();
    let connection = Connection {
        stream,
        peer,
        service,
        clock,
        input,
        output: BytesMut::new(),
        pending: FuturesOrdered::new(),
        input_over: false,
        stopped: false,
        malformed: None,
        since: now,
        waiting_for: Waiting::Request,
    };
    connection.serve(&slot, &mut closing).await
}

/// Waits for the first octets, which tell netstrings from HTTP; false where none came.
async fn first_octets(
    stream: &mut Stream,
    input: &mut BytesMut,
    slot: &Slot,
    closing: &mut watch::Receiver<bool>,
) -> Result<bool, End> {
    tokio::select! {
        read = stream.read_buf(input) => Ok(read? > 0),
        () = slot.told_to_leave() => Err(End::MadeRoom),
        () = sleep(limits::SOCKETMAP_IDLE) => Err(End::Idle),
        () = closed(closing) => Ok(false),
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    let _ = closing.wait_for(|closing| *closing).await;
}

struct Connection<S> {
    stream: Stream,
    peer: Peer,
    service: Arc<S>,
    clock: Clock,
    input: BytesMut,
    output: BytesMut,
    /// Replies that are not ready, and those that came behind one of them.
    pending: FuturesOrdered<BoxFuture<'static, Reply>>,
    /// Nothing more will be read: end of input, or shutdown. What was received whole is still answered.
    input_over: bool,
    /// No more requests are taken: one was malformed, or a reply was the last.
    stopped: bool,
    malformed: Option<Malformed>,
    /// When the wait that is going on began.
    since: Instant,
    waiting_for: Waiting,
}

/// Octets that went one way.
enum Moved {
    In(usize),
    Out(usize),
}

/// What the peer has to do next; each wait has its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Ask something.
    Request,
    /// Complete a request.
    Rest,
    /// Read its replies.
    Reader,
    /// Nothing: we owe it an answer.
    Us,
}

impl Waiting {
    fn limit(self) -> Option<(Duration, End)> {
        match self {
            Self::Request => Some((limits::SOCKETMAP_IDLE, End::Idle)),
            Self::Rest => Some((limits::SOCKETMAP_SLOW, End::SlowWriter)),
            Self::Reader => Some((limits::SOCKETMAP_SLOW, End::SlowReader)),
            Self::Us => None,
        }
    }
}

impl<S: Service> Connection<S> {
    async fn serve(mut self, slot: &Slot, closing: &mut watch::Receiver<bool>) -> Result<(), End> {
        // Looks at the clock now and then instead of being set anew for each request.
        let mut tick = std::pin::pin!(sleep(limits::SOCKETMAP_TICK));
        // Made once: to wait for them anew for each request would cost more than the request.
        let mut told_to_leave = std::pin::pin!(slot.told_to_leave());
        let mut told_to_close = std::pin::pin!(closed(closing));
        loop {
            self.take_ready();
            self.take_requests();
            self.note_wait(slot);
            let may_send = !self.pending.is_empty() && self.output.len() < limits::SOCKETMAP_OUTPUT_BYTES;
            let may_read = !self.stopped && !self.input_over && self.has_room();
            if (self.stopped || self.input_over) && self.pending.is_empty() && self.output.is_empty() {
                return self.malformed.map_or(Ok(()), |malformed| Err(malformed.into()));
            }
            tokio::select! {
                biased;
                Some(reply) = self.pending.next(), if may_send => self.send(&reply),
                moved = Self::transfer(&mut self.stream, &mut self.input, &self.output, may_read) => match moved? {
                    Moved::Out(count) => {
                        self.output.advance(count);
                        self.since = self.clock.instant();
                        if self.output.is_empty() && self.output.capacity() > 2 * limits::SOCKETMAP_OUTPUT_BYTES {
                            self.output = BytesMut::new(); // a rare long reply is not paid for forever
                        }
                    }
                    Moved::In(count) => self.input_over |= count == 0,
                },
                () = &mut told_to_leave => return Err(End::MadeRoom),
                // What was received whole is answered; the rest is not waited for.
                () = &mut told_to_close, if !self.input_over => self.input_over = true,
                () = &mut tick => self.check_time(tick.as_mut())?,
            }
        }
    }

    /// Writes what is there to be written, or else reads if there is room; waits for whichever comes first.
    async fn transfer(stream: &mut Stream, input: &mut BytesMut, output: &[u8], may_read: bool) -> io::Result<Moved> {
        poll_fn(|cx| {
            if !output.is_empty()
                && let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(cx, output)
            {
                return Poll::Ready(match written? {
                    0 => Err(io::ErrorKind::WriteZero.into()),
                    count => Ok(Moved::Out(count)),
                });
            }
            if may_read {
                let read = std::pin::pin!(stream.read_buf(input)).poll(cx);
                return read.map_ok(Moved::In);
            }
            Poll::Pending
        })
        .await
    }

    fn has_room(&self) -> bool {
        self.input.len() < limits::SOCKETMAP_INPUT_BYTES
            && self.pending.len() < limits::SOCKETMAP_PIPELINE
            && self.output.len() < limits::SOCKETMAP_OUTPUT_BYTES
    }

    /// Works off the complete requests in the buffer, as far as there is room for their replies.
    fn take_requests(&mut self) {
        while !self.stopped
            && self.pending.len() < limits::SOCKETMAP_PIPELINE
            && self.output.len() < limits::SOCKETMAP_OUTPUT_BYTES
        {
            let frame = match netstring::decode(&self.input, limits::SOCKETMAP_REQUEST_BYTES) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(malformed) => {
                    // Requests before it were well-formed: they are answered, then the connection closes.
                    self.malformed = Some(malformed);
                    self.stopped = true;
                    break;
                }
            };
            let size = frame.size;
            let answer = self.service.answer(Request::parse(frame.payload, self.peer));
            self.input.advance(size);
            match answer {
                Answer::Now(reply) if self.pending.is_empty() => self.send(&reply),
                Answer::Now(reply) => self.pending.push_back(std::future::ready(reply).boxed()),
                Answer::Later(reply) => self.pending.push_back(reply),
            }
        }
        // Room for at least one whole request, without growing: what was worked off makes way.
        if self.input.capacity() - self.input.len() < 512 {
            self.input.reserve(limits::SOCKETMAP_INPUT_BYTES.saturating_sub(self.input.len()));
        }
    }

    /// Moves replies that are ready by now into the output, in order.
    fn take_ready(&mut self) {
        while !self.pending.is_empty() && self.output.len() < limits::SOCKETMAP_OUTPUT_BYTES {
            let Some(Some(reply)) = self.pending.next().now_or_never() else { break };
            self.send(&reply);
        }
    }

    fn send(&mut self, reply: &Reply) {
        match reply.framing() {
            Framing::Netstring => netstring::encode(reply.as_bytes(), &mut self.output),
            Framing::Plain => self.output.extend_from_slice(reply.as_bytes()),
            Framing::PlainAndLast => {
                self.output.extend_from_slice(reply.as_bytes());
                self.stopped = true;
                self.pending = FuturesOrdered::new();
            }
        }
    }

    fn note_wait(&mut self, slot: &Slot) {
        let waiting_for = if !self.output.is_empty() {
            Waiting::Reader
        } else if !self.pending.is_empty() {
            Waiting::Us
        } else if self.input.is_empty() {
            Waiting::Request
        } else {
            Waiting::Rest
        };
        if waiting_for == self.waiting_for {
            return;
        }
        self.since = self.clock.instant();
        if waiting_for == Waiting::Us {
            slot.busy();
        } else {
            slot.idle();
        }
        self.waiting_for = waiting_for;
    }

    fn check_time(&self, tick: Pin<&mut Sleep>) -> Result<(), End> {
        let now = self.clock.instant();
        match self.waiting_for.limit() {
            Some((limit, end)) if now.saturating_duration_since(self.since) >= limit => Err(end),
            _ => {
                tick.reset(now + limits::SOCKETMAP_TICK);
                Ok(())
            }
        }
    }
}
