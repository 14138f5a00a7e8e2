//! Values that many entries have in common, each kept once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::entry::{DaneEntry, RecordOutcome, StsEntry, StsPolicy};
use crate::limits::POLICY_POOL_SWEEP;

/// What a hundred thousand next hops share: the policies of a provider's customers are the same, and most reasons have
/// one of a few texts.
#[derive(Debug, Default)]
pub(super) struct Pools {
    policies: Pool<StsPolicy>,
    texts: Pool<str>,
}

impl Pools {
    /// Lets the parts of `entry` be those that others have, where they are the same.
    pub fn share_sts(&mut self, entry: &mut StsEntry) {
        if let RecordOutcome::Absent(text) | RecordOutcome::Failed(text) = &mut entry.record.outcome {
            self.texts.share(text);
        }
        if let Some(held) = &mut entry.policy {
            let mut policy = Arc::clone(&held.policy);
            self.policies.share(&mut policy);
            if !Arc::ptr_eq(&policy, &held.policy) {
                Arc::make_mut(held).policy = policy;
            }
        }
    }

    /// Likewise.
    pub fn share_dane(&mut self, entry: &mut DaneEntry) {
        self.texts.share(&mut entry.reason);
    }
}

#[derive(Debug)]
struct Pool<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// So many may there be before it is looked which of them nobody has any more.
    sweep_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), sweep_at: 0 }
    }
}

impl<T: Eq + Hash + ?Sized> Pool<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.values.get(&*value) {
            if !Arc::ptr_eq(known, value) {
                *value = Arc::clone(known);
            }
            return;
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (2 * self.values.len()).max(POLICY_POOL_SWEEP);
        }
        self.values.insert(Arc::clone(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_one_and_what_nobody_has_goes() {
        let mut pool = Pool::<str>::default();
        let share = |pool: &mut Pool<str>, text: &str| {
            let mut text = Arc::<str>::from(text);
            pool.share(&mut text);
            text
        };
        let kept = share(&mut pool, "kept");
        for n in 0..10 * POLICY_POOL_SWEEP {
            share(&mut pool, &n.to_string());
        }
        assert!(pool.values.len() <= POLICY_POOL_SWEEP, "{}", pool.values.len());
        assert!(Arc::ptr_eq(&kept, &share(&mut pool, "kept")));
    }
}
