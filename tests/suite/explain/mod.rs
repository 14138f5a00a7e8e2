//! Explanations of next hops of the test world (design §10).

mod look;

use postseal::config::MapOptions;
use postseal::names::NextHop;
use postseal::policy::explain::text::{Style, render};
use postseal::policy::explain::{Explanation, Looker, Question, explain};

use crate::support::lab::Lab;
use crate::support::policy_lab::{PolicyLab, ScriptedFetch};

/// A policy engine on a world in memory, and what explanations are made of.
struct Setting {
    policy: PolicyLab,
    fetch: std::sync::Arc<ScriptedFetch>,
}

impl Setting {
    fn new(lab: Lab) -> Self {
        let fetch = ScriptedFetch::new(&lab);
        Self { policy: PolicyLab::new(lab, fetch.clone()), fetch }
    }

    async fn explain(&self, key: &str) -> Explanation {
        let hop = NextHop::parse(key.as_bytes()).unwrap();
        let dns = std::sync::Arc::new(self.policy.lab.engine.apart());
        let looker = Looker { dns, fetch: self.fetch.clone() };
        let map = MapOptions::default();
        explain(&self.policy.engine, &looker, Question { hop: &hop, map_name: "QUERY", map: &map }).await
    }

    async fn text(&self, key: &str) -> String {
        render(&self.explain(key).await, Style::default())
    }
}
