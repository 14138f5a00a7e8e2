//! Explanations of next hops of the test world (design §10).

mod command;
mod faults;
mod live;
mod look;
mod servers;
mod still;
mod sts;

use std::sync::Arc;
use std::time::Duration;

use postseal::config::MapOptions;
use postseal::limits::EXPLAIN_TIME;
use postseal::names::NextHop;
use postseal::policy::explain::{Explanation, Looker, Question, explain};
use postseal::policy::mta_sts::Fetch;
use postseal::resolver::transport::mozilla_roots;
use rustls::RootCertStore;

use crate::support::lab::Lab;
use crate::support::policy_lab::{PolicyLab, ScriptedFetch};

/// A policy engine on a world, and what explanations are made of.
struct Setting {
    policy: PolicyLab,
    fetch: Arc<dyn Fetch>,
    roots: Arc<RootCertStore>,
    patience: Duration,
}

impl Setting {
    /// Where no policy host is looked at more closely.
    fn new(lab: Lab) -> Self {
        let fetch = ScriptedFetch::new(&lab);
        Self::with_fetch(lab, fetch, EXPLAIN_TIME)
    }

    fn with_fetch(lab: Lab, fetch: Arc<dyn Fetch>, patience: Duration) -> Self {
        let policy = PolicyLab::new(lab, fetch.clone());
        Self { policy, fetch, roots: Arc::new(mozilla_roots()), patience }
    }

    async fn explain(&self, key: &str) -> Explanation {
        self.look(key, false).await
    }

    async fn look(&self, key: &str, check_mx: bool) -> Explanation {
        let hop = NextHop::parse(key.as_bytes()).unwrap();
        let looker = Looker {
            dns: Arc::new(self.policy.lab.engine.apart()),
            fetch: self.fetch.clone(),
            roots: self.roots.clone(),
            patience: self.patience,
        };
        let map = MapOptions::default();
        explain(&self.policy.engine, &looker, Question { hop: &hop, map_name: "QUERY", map: &map, check_mx }).await
    }
}
