//! What is known of one next hop, taken out of the cache as it stands.

use std::time::Duration;

use super::state::{DaneState, StsState};
use crate::clock::{Stamp, Tick, UnixTime};

/// How an entry is used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Queries answered from it.
    pub hits: u32,
    /// The last query for it, or when it was read in.
    pub asked_at: Tick,
    /// Asked for since its DANE branch was last refreshed.
    pub asked_dane: bool,
    /// Asked for since its MTA-STS branch was last refreshed.
    pub asked_sts: bool,
    /// After a failed renewal of the DANE branch: not again before this; else [`Tick::EVER`].
    pub dane_retry_at: Tick,
    /// Failed renewals of the DANE branch in a row.
    pub dane_failures: u8,
}

/// One entry as it stands.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The DANE branch, fresh or not.
    pub dane: Option<DaneState>,
    /// The MTA-STS branch, fresh or not: that of the name, whatever the form of the key (RFC 8461 §3.4).
    pub sts: Option<StsState>,
    /// Until when a policy counts as seen, be it of the name or of this very next hop; 0 where none ever was.
    pub seen_until: UnixTime,
    /// How it is used.
    pub usage: Usage,
}

impl Usage {
    /// Whether the DANE branch may be renewed: not so soon after a failure.
    pub fn may_renew_dane(&self, now: Stamp) -> bool {
        Tick::from(now.instant) >= self.dane_retry_at
    }

    /// How long ago it was last asked for.
    pub fn idle(&self, now: Stamp) -> Duration {
        Tick::from(now.instant).since(self.asked_at)
    }
}

impl Snapshot {
    /// Adds what is known of the name alone, whose MTA-STS branch all forms of the key share.
    pub(super) fn add_name(&mut self, plain: Self) {
        self.sts = plain.sts;
        self.seen_until = self.seen_until.max(plain.seen_until);
    }
}

/// What is known of a next hop that is not a name alone, and of the name.
pub(super) fn joined(own: Option<Snapshot>, plain: Option<Snapshot>) -> Option<Snapshot> {
    match (own, plain) {
        (Some(mut own), Some(plain)) => {
            own.add_name(plain);
            Some(own)
        }
        (None, Some(plain)) => Some(Snapshot { dane: None, ..plain }),
        (own, None) => own,
    }
}
