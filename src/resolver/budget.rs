//! What one lookup may cost, counted. Everything done on behalf of a lookup, side lookups and validation
//! included, draws on the same [`Budget`]; each limit has its reason in [`crate::limits`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::transport::QuestionId;
use crate::clock::Instant;
use crate::limits;

/// Counters of one lookup; shared by all that works for it.
#[derive(Debug, Default)]
pub struct Budget {
    queries: AtomicU32,
    referrals: AtomicU32,
    checks: AtomicU32,
    failed_checks: AtomicU32,
    hash_blocks: AtomicU32,
    /// The policy question that the lookup is a part of.
    scope: Option<Arc<Scope>>,
    /// Whose share of sockets and connections it takes.
    question: QuestionId,
}

/// The limit that was reached, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Exceeded(pub &'static str);

/// The limit that is none of a [`Budget`]'s counters: [`limits::LOOKUP_TIME`].
pub const OUT_OF_TIME: &str = "time";

impl Exceeded {
    /// [`limits::SCOPE_PACKETS`].
    pub const SCOPE: Self = Self("packets of one policy question");
    /// [`limits::SCOPE_PACKETS_TO_SILENT`].
    pub const SILENT: Self = Self("packets to a server that does not answer");

    /// Whether a limit of a whole policy question was reached: another one still may ask the same.
    pub fn is_of_scope(what: &str) -> bool {
        what == Self::SCOPE.0 || what == Self::SILENT.0
    }
}

impl Budget {
    /// That of a lookup for this policy question.
    pub fn within(scope: Option<Arc<Scope>>) -> Self {
        let question = scope.as_ref().map_or_else(QuestionId::default, |scope| scope.question);
        Self { scope, question, ..Self::default() }
    }

    /// That of another lookup, for the same policy question and with the same share of sockets.
    pub fn beside(&self) -> Self {
        Self { question: self.question, ..Self::within(self.scope.clone()) }
    }

    /// Whose share of sockets and connections it takes.
    pub fn question(&self) -> QuestionId {
        self.question
    }

    /// One more packet to an upstream server at `now`.
    pub fn packet(&self, server: IpAddr, now: Instant) -> Result<(), Exceeded> {
        if let Some(scope) = &self.scope {
            scope.packet(server, now)?;
        }
        spend(&self.queries, limits::UPSTREAM_QUERIES_PER_LOOKUP, "upstream queries")
    }
    /// A server has answered.
    pub fn answered(&self, server: IpAddr) {
        if let Some(scope) = &self.scope {
            scope.answered(server);
        }
    }
    /// Waits where all that may be sent to a server that has not answered yet was sent, and the last of it a moment ago.
    pub async fn room(&self, server: IpAddr) {
        if let Some(scope) = &self.scope {
            scope.room(server).await;
        }
    }
    /// One more referral followed.
    pub fn referral(&self) -> Result<(), Exceeded> {
        spend(&self.referrals, limits::REFERRALS_PER_LOOKUP, "referrals")
    }
    /// One more signature check, before it is made.
    pub fn signature_check(&self) -> Result<(), Exceeded> {
        spend(&self.checks, limits::SIGNATURE_CHECKS_PER_LOOKUP, "signature checks")
    }
    /// A signature check that failed.
    pub fn failed_check(&self) -> Result<(), Exceeded> {
        spend(&self.failed_checks, limits::FAILED_SIGNATURE_CHECKS_PER_LOOKUP, "failed signature checks")
    }
    /// One more NSEC3 hash, of so many blocks of SHA-1 in all its iterations, before it is computed.
    pub fn nsec3_hash(&self, blocks: u32) -> Result<(), Exceeded> {
        let before = self.hash_blocks.fetch_add(blocks, Ordering::Relaxed);
        if before.saturating_add(blocks) <= limits::NSEC3_BLOCKS_PER_LOOKUP {
            Ok(())
        } else {
            // Spent for good: what costs less would not be allowed, either.
            self.hash_blocks.store(limits::NSEC3_BLOCKS_PER_LOOKUP, Ordering::Relaxed);
            Err(Exceeded("NSEC3 hashes"))
        }
    }
    /// Whether no further query may leave.
    pub fn is_spent(&self) -> bool {
        self.queries.load(Ordering::Relaxed) >= limits::UPSTREAM_QUERIES_PER_LOOKUP
            || self.scope.as_ref().is_some_and(|scope| scope.is_spent())
    }
    /// Upstream queries so far.
    pub fn queries_spent(&self) -> u32 {
        self.queries.load(Ordering::Relaxed).min(limits::UPSTREAM_QUERIES_PER_LOOKUP)
    }
}

fn spend(counter: &AtomicU32, limit: u32, what: &'static str) -> Result<(), Exceeded> {
    if counter.fetch_add(1, Ordering::Relaxed) < limit { Ok(()) } else { Err(Exceeded(what)) }
}

/// What all lookups of one policy question may send together, keys and name servers' addresses included: whoever
/// publishes fifty MX hosts does not have us ask somebody else fifty times as much (design §6).
#[derive(Debug, Default)]
pub struct Scope {
    packets: AtomicU32,
    question: QuestionId,
    /// By server; no more of them than packets.
    servers: Mutex<HashMap<IpAddr, Sent>>,
    heard: Notify,
}

/// What a server was sent.
#[derive(Debug)]
enum Sent {
    /// It has answered.
    Answered,
    /// It has not: how much it was sent, and when last.
    InVain(u32, Instant),
}

impl Scope {
    /// Whether no further packet may leave.
    pub fn is_spent(&self) -> bool {
        self.packets.load(Ordering::Relaxed) >= limits::SCOPE_PACKETS
    }

    fn packet(&self, server: IpAddr, now: Instant) -> Result<(), Exceeded> {
        let mut servers = self.servers.lock();
        let in_vain = match servers.get(&server) {
            Some(Sent::Answered) => None,
            Some(Sent::InVain(sent, _)) => Some(*sent),
            None => Some(0),
        };
        if in_vain.is_some_and(|sent| sent >= limits::SCOPE_PACKETS_TO_SILENT) {
            return Err(Exceeded::SILENT);
        }
        spend(&self.packets, limits::SCOPE_PACKETS, Exceeded::SCOPE.0)?;
        if let Some(sent) = in_vain {
            servers.insert(server, Sent::InVain(sent + 1, now));
        }
        Ok(())
    }

    fn answered(&self, server: IpAddr) {
        let before = self.servers.lock().insert(server, Sent::Answered);
        if !matches!(before, Some(Sent::Answered)) {
            self.heard.notify_waiters();
        }
    }

    async fn room(&self, server: IpAddr) {
        loop {
            let heard = self.heard.notified();
            let until = match self.servers.lock().get(&server) {
                Some(Sent::InVain(sent, last)) if *sent >= limits::SCOPE_PACKETS_TO_SILENT => {
                    *last + limits::LAST_PATIENCE
                }
                _ => return,
            };
            if tokio::time::timeout_at(until, heard).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_ends_at_its_limit() {
        let budget = Budget::default();
        for _ in 0..limits::FAILED_SIGNATURE_CHECKS_PER_LOOKUP {
            budget.failed_check().expect("within the limit");
        }
        assert_eq!(budget.failed_check(), Err(Exceeded("failed signature checks")));
        assert!(budget.packet(SERVER, Instant::now()).is_ok());
        assert_eq!(budget.queries_spent(), 1);
    }

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_gets_few_packets_of_a_policy_question_and_one_that_answers_its_share() {
        let scope = Arc::new(Scope::default());
        let now = Instant::now();
        // Each lookup has its own budget; the scope is theirs together.
        let packet = |server: IpAddr| Budget::within(Some(Arc::clone(&scope))).packet(server, now);
        for _ in 0..limits::SCOPE_PACKETS_TO_SILENT {
            packet(SERVER).expect("within the limit");
        }
        assert_eq!(packet(SERVER), Err(Exceeded::SILENT));
        let budget = Budget::within(Some(Arc::clone(&scope)));
        budget.room(SERVER).await;
        assert_eq!(Instant::now() - now, limits::LAST_PATIENCE, "the last one may yet be answered");
        budget.answered(SERVER);
        for _ in limits::SCOPE_PACKETS_TO_SILENT..limits::SCOPE_PACKETS {
            packet(SERVER).expect("within the limit");
        }
        assert_eq!(packet(SERVER), Err(Exceeded::SCOPE));
        assert!(budget.is_spent() && budget.beside().is_spent() && !Budget::default().is_spent());
    }
}
