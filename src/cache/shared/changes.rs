//! What is still to be told to the shared store: the newest change of each domain, bounded.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::entry::HeldPolicy;
use crate::limits::SHARED_PENDING;
use crate::names::Domain;

/// What becomes of a domain's entry.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// This policy was fetched.
    Put(Arc<HeldPolicy>),
    /// The operator purged it.
    Remove,
}

/// Between those who learn and the one task that writes.
#[derive(Default)]
pub(super) struct Changes {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    waiting: HashMap<Domain, Change>,
    order: VecDeque<Domain>,
    /// Taken, and not done yet.
    under_way: Option<(Domain, Change)>,
}

impl Changes {
    /// Takes note of a change; false where there is no room for it.
    pub(super) fn put(&self, domain: &Domain, change: Change) -> bool {
        let mut state = self.state.lock();
        let full = state.waiting.len() >= SHARED_PENDING;
        match state.waiting.entry(domain.clone()) {
            Entry::Occupied(mut waiting) => drop(waiting.insert(change)),
            Entry::Vacant(_) if full => return false,
            Entry::Vacant(place) => {
                place.insert(change);
                state.order.push_back(domain.clone());
            }
        }
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Waits for a change and takes it, for one writer. Until [`Changes::done`] or [`Changes::put_back`] it still
    /// counts as coming.
    pub(super) async fn take(&self) -> (Domain, Change) {
        loop {
            if let Some(taken) = self.take_now() {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    fn take_now(&self) -> Option<(Domain, Change)> {
        let mut state = self.state.lock();
        let domain = state.order.pop_front()?;
        let change = state.waiting.remove(&domain)?;
        state.under_way = Some((domain, change));
        state.under_way.clone()
    }

    /// What was taken is done.
    pub(super) fn done(&self) {
        self.state.lock().under_way = None;
    }

    /// What was taken could not be done; what came since is newer.
    pub(super) fn put_back(&self) {
        let mut state = self.state.lock();
        let Some((domain, change)) = state.under_way.take() else { return };
        if let Entry::Vacant(place) = state.waiting.entry(domain.clone()) {
            place.insert(change);
            state.order.push_front(domain);
        }
    }

    /// True where the entry of `domain` is about to go: what is still there does not count any more.
    pub(super) fn is_leaving(&self, domain: &Domain) -> bool {
        let state = self.state.lock();
        let under_way = state.under_way.as_ref().filter(|(taken, _)| taken == domain).map(|(_, change)| change);
        matches!(state.waiting.get(domain).or(under_way), Some(Change::Remove))
    }

    /// Changes that wait.
    pub(super) fn len(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + usize::from(state.under_way.is_some())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).expect("a domain")
    }

    fn next(changes: &Changes) -> Option<Domain> {
        changes.take().now_or_never().map(|(domain, _)| domain)
    }

    #[test]
    fn the_newest_change_of_a_domain_counts_and_all_come_in_turn() {
        let changes = Changes::default();
        for name in ["a.example", "b.example", "a.example"] {
            assert!(changes.put(&domain(name), Change::Remove));
        }
        assert_eq!(changes.len(), 2);
        assert_eq!(next(&changes), Some(domain("a.example")));
        changes.put_back();
        assert_eq!(next(&changes), Some(domain("a.example")), "first again");
        changes.done();
        assert_eq!(next(&changes), Some(domain("b.example")));
        changes.done();
        assert_eq!((next(&changes), changes.len()), (None, 0));
    }

    #[test]
    fn a_purged_domain_is_leaving_until_that_is_done() {
        let changes = Changes::default();
        let name = domain("a.example");
        changes.put(&name, Change::Remove);
        assert!(changes.is_leaving(&name));
        next(&changes);
        assert!(changes.is_leaving(&name), "under way");
        changes.done();
        assert!(!changes.is_leaving(&name));
    }

    #[test]
    fn what_comes_while_a_change_is_under_way_is_newer() {
        let changes = Changes::default();
        let name = domain("a.example");
        changes.put(&name, Change::Remove);
        next(&changes);
        let policy = crate::cache::entry::StsPolicy {
            mode: crate::cache::StsMode::None,
            max_age: 1,
            mx: Box::default(),
            lines: Default::default(),
        };
        changes.put(&name, Change::Put(Arc::new(HeldPolicy { id: "1".into(), fetched_at: 0, policy: policy.into() })));
        assert!(!changes.is_leaving(&name));
        changes.put_back();
        assert!(matches!(changes.take().now_or_never(), Some((_, Change::Put(_)))));
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let changes = Changes::default();
        for number in 0..SHARED_PENDING {
            assert!(changes.put(&domain(&format!("d{number}.example")), Change::Remove));
        }
        assert!(!changes.put(&domain("more.example"), Change::Remove));
        assert!(changes.put(&domain("d0.example"), Change::Remove), "a newer change takes the place of an older one");
    }
}
