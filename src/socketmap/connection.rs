//! One connection: requests in, replies out in the same order, everything bounded.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture as Boxed;
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::watch;
use tokio::task::coop;
use tokio::time::{sleep, sleep_until, timeout};

use super::netstring::{self, Malformed};
use super::request::{Framing, Peer, Reply, Request};
use super::stream::{Rewound, Stream};
use super::{Answer, BoxFuture, Service};
use crate::clock::{Clock, Instant, Stamp};
use crate::limits;
use crate::places::Place;

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
    place: Place,
    service: Arc<S>,
    clock: Clock,
    mut closing: watch::Receiver<bool>,
) -> Result<(), End> {
    let mut input = BytesMut::with_capacity(limits::SOCKETMAP_INPUT_BYTES);
    if !first_octets(&mut stream, &mut input, &place, &mut closing).await? {
        return Ok(());
    }
    if input.first().is_some_and(u8::is_ascii_alphabetic) {
        // Not Postfix: until its end it counts as one that never finished a request.
        let mut http = service.http(Rewound::new(input, stream));
        tokio::select! {
            () = &mut http => {}
            () = place.told_to_leave() => return Err(End::MadeRoom),
            () = closed(&mut closing) => {
                // A scrape that has begun takes milliseconds; more is not waited for.
                let _ = timeout(limits::HTTP_DRAIN, http).await;
            }
        }
        return Ok(());
    }
    let peer = stream.peer();
    let now = clock.stamp();
    let connection = Connection {
        stream,
        peer,
        service,
        clock,
        input,
        output: BytesMut::new(),
        reply: String::new(),
        pending: FuturesOrdered::new(),
        closing: false,
        input_over: false,
        has_asked: false,
        stopped: false,
        malformed: None,
        now,
        since: now,
        moved: false,
        waiting_for: Waiting::Request,
    };
    connection.serve(&place, &mut closing).await
}

/// Waits for the first octets, which tell netstrings from HTTP; false where none came.
async fn first_octets(
    stream: &mut Stream,
    input: &mut BytesMut,
    place: &Place,
    closing: &mut watch::Receiver<bool>,
) -> Result<bool, End> {
    tokio::select! {
        read = stream.read_buf(input) => return Ok(read? > 0),
        () = place.told_to_leave() => return Err(End::MadeRoom),
        () = sleep(limits::SOCKETMAP_IDLE) => return Err(End::Idle),
        () = closed(closing) => {}
    }
    // A request that was sent before is there by now, or will be in a moment.
    match timeout(limits::SOCKETMAP_LAST_LOOK, stream.read_buf(input)).await {
        Ok(read) => Ok(read? > 0),
        Err(_) => Ok(false),
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
    /// Where a reply that is known at once is written before it is framed.
    reply: String,
    /// Replies that are not ready, and those that came behind one of them.
    pending: FuturesOrdered<BoxFuture<'static, Reply>>,
    /// The process ends: what was sent by now is read, and nothing after it.
    closing: bool,
    /// Nothing more will be read: end of input, or shutdown. What was received whole is still answered.
    input_over: bool,
    /// A request was finished.
    has_asked: bool,
    /// No more requests are taken: one was malformed, or a reply was the last.
    stopped: bool,
    malformed: Option<Malformed>,
    /// When something last came in or went out: one look at the clock for a whole batch of requests.
    now: Stamp,
    /// When the wait that is going on began.
    since: Stamp,
    /// A request was taken or octets were sent since then.
    moved: bool,
    waiting_for: Waiting,
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

/// What happens seldom in the life of a connection.
enum Seldom {
    /// Another connection needs its place.
    Leave,
    /// The process ends.
    Close,
    /// What was sent before that has been received by now.
    LastLook,
    /// Time to look at the clock.
    Tick,
}

/// They wake this connection by themselves and are looked at only then: to ask each of them after every request would
/// cost more than the request.
type SeldomEvents<'a> = FuturesUnordered<Boxed<'a, Seldom>>;

impl<S: Service> Connection<S> {
    async fn serve(mut self, place: &Place, closing: &mut watch::Receiver<bool>) -> Result<(), End> {
        let mut seldom = SeldomEvents::new();
        seldom.push(place.told_to_leave().map(|()| Seldom::Leave).boxed());
        seldom.push(closed(closing).map(|()| Seldom::Close).boxed());
        seldom.push(sleep(limits::SOCKETMAP_TICK).map(|()| Seldom::Tick).boxed());
        poll_fn(|cx| self.poll_serve(cx, place, &mut seldom)).await
    }

    /// Goes on as far as possible without waiting.
    fn poll_serve(
        &mut self,
        cx: &mut Context<'_>,
        place: &Place,
        seldom: &mut SeldomEvents<'_>,
    ) -> Poll<Result<(), End>> {
        loop {
            let held_back = self.take_requests();
            let held_up = self.take_ready(cx);
            // One write for everything that could be answered.
            let sent = self.poll_send(cx)?;
            if (self.stopped || self.input_over) && !held_back && self.pending.is_empty() && self.output.is_empty() {
                return Poll::Ready(self.malformed.map_or(Ok(()), |malformed| Err(malformed.into())));
            }
            if sent.is_ready() && (held_up || held_back && self.may_take()) {
                continue;
            }
            if self.poll_receive(cx)?.is_ready() {
                continue;
            }
            if self.closing && !self.input_over && self.has_room() && coop::has_budget_remaining() {
                self.input_over = true; // nothing more was there
                continue;
            }
            self.note_wait(place);
            match seldom.poll_next_unpin(cx) {
                Poll::Ready(Some(Seldom::Leave)) => return Poll::Ready(Err(End::MadeRoom)),
                // What was sent whole is answered; the rest is not waited for.
                Poll::Ready(Some(Seldom::Close)) => {
                    seldom.push(sleep(limits::SOCKETMAP_LAST_LOOK).map(|()| Seldom::LastLook).boxed());
                }
                Poll::Ready(Some(Seldom::LastLook)) => self.closing = true,
                Poll::Ready(Some(Seldom::Tick)) => {
                    let now = self.check_time()?;
                    seldom.push(sleep_until(now + limits::SOCKETMAP_TICK).map(|()| Seldom::Tick).boxed());
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes until nothing is left to be written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.moved = true;
        }
        if self.output.capacity() > 2 * limits::SOCKETMAP_OUTPUT_BYTES {
            self.output = BytesMut::new(); // a rare long reply is not paid for forever
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, if there is room; ready where something came, or the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stopped || self.input_over || !self.has_room() {
            return Poll::Pending; // until something else happens
        }
        let count = ready!(std::pin::pin!(self.stream.read_buf(&mut self.input)).poll(cx))?;
        self.input_over |= count == 0;
        self.now = self.clock.stamp();
        Poll::Ready(Ok(()))
    }

    fn has_room(&self) -> bool {
        self.input.len() < limits::SOCKETMAP_INPUT_BYTES && self.may_take()
    }

    /// There is room for another reply.
    fn may_take(&self) -> bool {
        self.pending.len() < limits::SOCKETMAP_PIPELINE && self.output.len() < limits::SOCKETMAP_OUTPUT_BYTES
    }

    /// Works off the complete requests in the buffer; true where there was no room for the replies of all.
    fn take_requests(&mut self) -> bool {
        while !self.stopped {
            let frame = match netstring::decode(&self.input, limits::SOCKETMAP_REQUEST_BYTES) {
                Ok(Some(_)) if !self.may_take() => return true,
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
            self.reply.clear();
            let request = Request::parse(frame.payload, self.peer, self.now);
            let answer = self.service.answer(request, &mut self.reply);
            self.input.advance(size);
            (self.moved, self.has_asked) = (true, true);
            match answer {
                Answer::Written if self.pending.is_empty() => {
                    netstring::encode(self.reply.as_bytes(), &mut self.output);
                }
                Answer::Written => self.wait_for(std::future::ready(Reply::written(&self.reply)).boxed()),
                Answer::Now(reply) if self.pending.is_empty() => self.send(&reply),
                Answer::Now(reply) => self.wait_for(std::future::ready(reply).boxed()),
                Answer::Later(reply) => self.wait_for(reply),
            }
        }
        // Room for at least one whole request, without growing: what was worked off makes way.
        if self.input.capacity() - self.input.len() < 512 {
            self.input.reserve(limits::SOCKETMAP_INPUT_BYTES.saturating_sub(self.input.len()));
        }
        false
    }

    fn wait_for(&mut self, reply: BoxFuture<'static, Reply>) {
        self.pending.push_back(reply);
    }

    /// Moves replies that are ready by now into the output, in order; true where there was no room to go on.
    fn take_ready(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.pending.is_empty() {
            if self.output.len() >= limits::SOCKETMAP_OUTPUT_BYTES {
                return true;
            }
            let Poll::Ready(Some(reply)) = self.pending.poll_next_unpin(cx) else { break };
            self.send(&reply);
            self.now = self.clock.stamp();
        }
        false
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

    /// Takes note of what this connection waits for, once nothing more can be done.
    fn note_wait(&mut self, place: &Place) {
        let waiting_for = if !self.output.is_empty() {
            Waiting::Reader
        } else if !self.pending.is_empty() {
            Waiting::Us
        } else if self.input.is_empty() {
            Waiting::Request
        } else {
            Waiting::Rest
        };
        if waiting_for == self.waiting_for && !self.moved {
            return;
        }
        if [waiting_for, self.waiting_for].contains(&Waiting::Reader) {
            self.now = self.clock.stamp(); // it is long since something came in
        }
        self.since = self.now;
        self.moved = false;
        match waiting_for {
            Waiting::Us if self.waiting_for != Waiting::Us => place.waits(self.now.instant),
            Waiting::Us => {}
            Waiting::Request | Waiting::Rest | Waiting::Reader if self.has_asked => place.idle(self.now.instant),
            Waiting::Request | Waiting::Rest | Waiting::Reader => {}
        }
        self.waiting_for = waiting_for;
    }

    /// Ends a wait that has lasted too long; returns the time.
    fn check_time(&self) -> Result<Instant, End> {
        let now = self.clock.instant();
        match self.waiting_for.limit() {
            Some((limit, end)) if now.saturating_duration_since(self.since.instant) >= limit => Err(end),
            _ => Ok(now),
        }
    }
}
