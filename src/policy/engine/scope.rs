//! DNS for one question: all that both branches look up for it is counted together.

use std::sync::{Arc, OnceLock};

use crate::dns::Lookup;

/// One question's share of the resolver, from the first lookup that it begins. A lookup that it joins was begun for
/// another question, and is counted there.
pub(super) struct Scope<'a> {
    resolver: &'a Arc<dyn Lookup>,
    lookup: OnceLock<Arc<dyn Lookup>>,
}

impl<'a> Scope<'a> {
    /// A question that has asked for nothing yet.
    pub fn new(resolver: &'a Arc<dyn Lookup>) -> Self {
        Self { resolver, lookup: OnceLock::new() }
    }

    /// The resolver for this question.
    pub fn lookup(&self) -> Arc<dyn Lookup> {
        let scoped = || self.resolver.scoped().unwrap_or_else(|| Arc::clone(self.resolver));
        Arc::clone(self.lookup.get_or_init(scoped))
    }
}
