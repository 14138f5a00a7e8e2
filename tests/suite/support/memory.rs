//! A [`World`] behind the engine's own network interface, without sockets: every exchange takes a fixed time on
//! tokio's paused clock, so that elapsed time counts exchanges that waited for each other. It can lose packets, too, or
//! let them overtake each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use postseal::dns::BoxFuture;
use postseal::resolver::transport::{Accept, NetError, Network, QuestionId, sent_again_at};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::wire::Question;
use super::world::{Action, World};

/// See the module.
pub struct MemoryNetwork {
    world: Arc<World>,
    /// There and back.
    round_trip: Duration,
    /// Part of the packets that get lost, each way.
    loss: f64,
    /// Each way takes from a tenth to ten times as long as usual.
    uneven: bool,
    random: Mutex<StdRng>,
    timeline: Mutex<Vec<(Instant, String)>>,
}

impl MemoryNetwork {
    pub fn new(world: Arc<World>, round_trip: Duration) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(0));
        Self { world, round_trip, loss: 0.0, uneven: false, random, timeline: Mutex::default() }
    }

    /// Loses this part of all packets, each way, by dice thrown from `seed`.
    pub fn losing(mut self, loss: f64, seed: u64) -> Self {
        self.loss = loss;
        self.random = Mutex::new(StdRng::seed_from_u64(seed));
        self
    }

    /// Packets overtake each other: each takes from a tenth of the usual time to ten times as long, by dice thrown from
    /// `seed`.
    pub fn uneven(mut self, seed: u64) -> Self {
        self.uneven = true;
        self.random = Mutex::new(StdRng::seed_from_u64(seed));
        self
    }

    /// Every question with the time it left, for people to read.
    pub fn timeline(&self) -> String {
        let lines = self.timeline.lock();
        let Some(since) = lines.first().map(|(at, _)| *at) else { return String::new() };
        lines
            .iter()
            .map(|(at, line)| format!("{:>6} ms {line}\n", at.saturating_duration_since(since).as_millis()))
            .collect()
    }

    fn note(&self, server: SocketAddr, query: &[u8], kind: &str) {
        if let Some(question) = Question::parse(query) {
            let line = format!("{kind} {} {} {}", server.ip(), question.name, question.rtype);
            self.timeline.lock().push((Instant::now(), line));
        }
    }

    /// What one packet takes.
    fn one_way(&self) -> Duration {
        let times = if self.uneven { 10_f64.powf(self.random.lock().random_range(-1.0..1.0)) } else { 1.0 };
        (self.round_trip / 2).mul_f64(times)
    }

    fn is_lost(&self) -> bool {
        self.loss > 0.0 && self.random.lock().random_bool(self.loss)
    }

    async fn datagram(&self, server: SocketAddr, query: &[u8], accept: Accept<'_>) -> Result<Vec<u8>, NetError> {
        self.note(server, query, "udp");
        sleep(self.one_way()).await;
        if !self.is_lost()
            && let Action::Reply(replies) = self.world.answer(server.ip(), query, false)
        {
            let arrived = Instant::now();
            for (after, octets) in replies {
                sleep_until(arrived + after + self.one_way()).await;
                if accept(&octets) && !self.is_lost() {
                    return Ok(octets);
                }
            }
        }
        std::future::pending().await
    }

    async fn segment(&self) {
        sleep(self.one_way()).await;
        let mut resend = Duration::from_secs(1); // RFC 6298 §2
        while self.is_lost() {
            sleep(resend).await;
            resend *= 2;
        }
    }

    async fn stream(&self, server: SocketAddr, query: &[u8], accept: Accept<'_>) -> Result<Vec<u8>, NetError> {
        self.note(server, query, "tcp");
        for _ in 0..3 {
            self.segment().await; // SYN, SYN-ACK, then the question
        }
        match self.world.answer(server.ip(), query, true) {
            Action::Close => Err(NetError::Closed),
            Action::Reply(replies) => {
                let Some((after, octets)) = replies.into_iter().next() else { return std::future::pending().await };
                sleep(after).await;
                self.segment().await;
                if accept(&octets) { Ok(octets) } else { Err(NetError::Closed) }
            }
        }
    }
}

impl Network for MemoryNetwork {
    fn udp<'a>(
        &'a self,
        server: SocketAddr,
        _question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        again: &'a Notify,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        let send = move || async move {
            timeout(limit, self.datagram(server, query, accept)).await.unwrap_or(Err(NetError::Timeout))
        };
        Box::pin(sent_again_at(again, send))
    }

    fn tcp<'a>(
        &'a self,
        server: SocketAddr,
        _question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        let exchange = self.stream(server, query, accept);
        Box::pin(async move { timeout(limit, exchange).await.unwrap_or(Err(NetError::Timeout)) })
    }
}
