//! The one task that keeps the connection to the shared store, and writes.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rand::RngExt;
use redis::{RedisError, cmd};
use tokio::time::{sleep, sleep_until};

use super::changes::Change;
use super::copy::{SharedCopy, key_of};
use super::link::{self, Connection, Trouble};
use super::store::{Link, LinkError, SharedStore, count, fetch, within};
use crate::limits::{SHARED_BACKOFF, SHARED_CONNECT_WAIT, SHARED_PROBE_INTERVAL, SHARED_READ_WAIT, SHARED_STEP_WAIT};
use crate::names::Domain;
use crate::telemetry::metrics::SHARED_STORE_FAILING;

impl SharedStore {
    /// Connects, writes what comes, connects again. Never ends.
    pub async fn run(&self) {
        let mut generation = 0;
        loop {
            generation += 1;
            match self.connect().await {
                Ok(connection) => {
                    self.rise(connection.clone(), generation);
                    self.serve(connection, generation).await;
                }
                Err(error) => self.sink(&error),
            }
            sleep(next_wait(&self.failures)).await;
        }
    }

    /// A connection that answered within the time that a mail would wait for it.
    async fn connect(&self) -> Result<Connection, LinkError> {
        let connecting = link::connect(&self.url, self.authorities.as_deref());
        let mut connection = within(SHARED_CONNECT_WAIT, connecting).await?;
        probe(&mut connection).await?;
        Ok(connection)
    }

    fn rise(&self, connection: Connection, generation: u64) {
        self.link.send_replace(Link::Up(connection, generation));
        metrics::gauge!(SHARED_STORE_FAILING).set(0.0);
        tracing::info!(url = %self.url, waiting = self.changes.len(), "shared store connected");
    }

    /// The connection could not be made: said once, at first.
    fn sink(&self, error: &LinkError) {
        let before = self.link.send_replace(Link::Down);
        match before {
            Link::Starting => self.note_down(error),
            Link::Up(..) | Link::Down => *self.last_error.lock() = Some(error.to_string()),
        }
    }

    /// Writes, and asks now and then whether the server is still there, until the connection is given up.
    async fn serve(&self, mut connection: Connection, generation: u64) {
        let mut link = self.link.subscribe();
        let mut lost = pin!(async { link.wait_for(|link| matches!(link, Link::Down)).await.is_ok() });
        let refusals = AtomicU32::new(0);
        let mut write_at = self.clock.instant();
        let mut probe_at = write_at + SHARED_PROBE_INTERVAL;
        loop {
            let next_change = async {
                sleep_until(write_at).await;
                self.changes.take().await
            };
            let failed = tokio::select! {
                biased;
                _ = &mut lost => return,
                () = sleep_until(probe_at) => {
                    probe_at = self.clock.instant() + SHARED_PROBE_INTERVAL;
                    probe(&mut connection).await.inspect(|()| self.worked()).err()
                }
                (domain, change) = next_change => {
                    let result = within(SHARED_STEP_WAIT, self.write(&mut connection, &domain, &change)).await;
                    self.settle(&change, &result);
                    match result {
                        Ok(_) => {
                            refusals.store(0, Ordering::Relaxed);
                            None
                        }
                        Err(LinkError::Redis(error)) if Trouble::of(&error) == Trouble::Refused => {
                            self.complain("shared store takes no writes, they wait", &domain, &error);
                            write_at = self.clock.instant() + next_wait(&refusals);
                            None
                        }
                        Err(error) => Some(error),
                    }
                }
            };
            if let Some(error) = failed {
                self.lose(generation, &error);
                return;
            }
        }
    }

    /// Carries one change out, and says what came of it.
    async fn write(
        &self,
        connection: &mut Connection,
        domain: &Domain,
        change: &Change,
    ) -> Result<&'static str, RedisError> {
        let key = key_of(domain);
        let held = match change {
            Change::Remove => {
                let _: u64 = connection.ask(cmd("DEL").arg(key)).await?;
                return Ok("ok");
            }
            Change::Put(held) => held,
        };
        let ends = held.fetched_at.saturating_add(held.policy.max_age.into());
        let now = self.clock.wall();
        if ends <= now {
            return Ok("older");
        }
        let Ok(value) = SharedCopy::of(domain, held).encode() else { return Ok("invalid") };
        // The newer fetch wins. Two that write at the same moment have both just fetched: either will do.
        if let Ok(Some(octets)) = fetch(connection, domain).await?
            && let Ok(shared) = self.read(domain, &octets, now)
            && shared.fetched_at > held.fetched_at
        {
            return Ok("older");
        }
        let ends = ends.saturating_mul(1_000);
        let _: String = connection.ask(cmd("SET").arg(key).arg(value).arg("PXAT").arg(ends)).await?;
        Ok("ok")
    }

    /// What was taken from the queue is done, or goes back.
    fn settle(&self, change: &Change, result: &Result<&'static str, LinkError>) {
        let operation = change.operation();
        match result {
            Ok(word) => {
                self.worked();
                self.changes.done();
                count(operation, word);
            }
            Err(error) => {
                self.changes.put_back();
                let refused = matches!(error, LinkError::Redis(error) if Trouble::of(error) == Trouble::Refused);
                count(operation, if refused { "refused" } else { "failed" });
            }
        }
        self.show_pending();
    }
}

impl Change {
    /// The metric label.
    fn operation(&self) -> &'static str {
        match self {
            Self::Put(_) => "write",
            Self::Remove => "remove",
        }
    }
}

/// How long to leave it alone now: doubled for each failure in a row, and not the same for all replicas.
fn next_wait(failures: &AtomicU32) -> Duration {
    let earlier = failures.fetch_add(1, Ordering::Relaxed);
    let (first, longest) = SHARED_BACKOFF;
    let wait = first.saturating_mul(1_u32.checked_shl(earlier).unwrap_or(u32::MAX)).min(longest);
    wait.mul_f64(rand::rng().random_range(0.75..=1.0))
}

/// Asks something that costs nothing and needs no permission beyond those for reading.
async fn probe(connection: &mut Connection) -> Result<(), LinkError> {
    let _: Vec<u8> =
        within(SHARED_READ_WAIT, connection.ask(cmd("GETRANGE").arg("postseal:probe").arg(0).arg(0))).await?;
    Ok(())
}
