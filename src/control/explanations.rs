//! Explanations within bounds: a few at a time, each with a look of its own.

use std::collections::HashMap;

use hyper::StatusCode;
use parking_lot::Mutex;

use super::routes::json;
use crate::caller::Caller;
use crate::config::MapOptions;
use crate::http::Text;
use crate::limits::EXPLANATIONS;
use crate::names::NextHop;
use crate::policy::Engine;
pub use crate::policy::explain::text::{Style, render};
use crate::policy::explain::{self, Looker, Question};
pub use crate::policy::explain::{Explanation, Verdict};

/// Explains next hops.
pub struct Explanations {
    policy: Engine,
    looker: Box<dyn Fn() -> Looker + Send + Sync>,
    /// Explanations under way, by whom they are for.
    under_way: Mutex<HashMap<Whose, usize>>,
}

/// Whom an explanation is for: each has places of its own, so that nobody takes all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Somebody at this host, over HTTP: the kernel does not tell who.
    Loopback,
    /// A user at the control socket, whatever the process.
    User(Option<u32>),
}

impl Whose {
    /// The user of a caller.
    pub fn of(caller: Caller) -> Self {
        Self::User(caller.uid)
    }
}

/// One explanation's place, free again when dropped.
struct Place<'a> {
    of: &'a Explanations,
    whose: Whose,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut under_way = self.of.under_way.lock();
        if let Some(count) = under_way.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.whose);
            }
        }
    }
}

/// How an explanation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A tree, one line for each thing.
    Text,
    /// JSON.
    Json,
}

/// Too many are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{EXPLANATIONS} of your explanations are under way, which is as many as there may be; try again in a moment")]
pub struct Busy;

impl Explanations {
    /// Of what `policy` knows; `looker` gives what a fresh look is taken with.
    pub fn new(policy: Engine, looker: Box<dyn Fn() -> Looker + Send + Sync>) -> Self {
        Self { policy, looker, under_way: Mutex::default() }
    }

    /// A place for one explanation. Users at the control socket are two at most, root and the daemon's own, so all
    /// places together are bounded, too.
    fn enter(&self, whose: Whose) -> Result<Place<'_>, Busy> {
        let mut under_way = self.under_way.lock();
        let count = under_way.entry(whose).or_default();
        if *count >= EXPLANATIONS {
            return Err(Busy);
        }
        *count += 1;
        Ok(Place { of: self, whose })
    }

    /// Explains the next hop of `key` at a map.
    pub async fn explain(
        &self,
        whose: Whose,
        key: &str,
        map_name: &str,
        map: &MapOptions,
        check_mx: bool,
    ) -> Result<Explanation, Busy> {
        let hop = match NextHop::parse(key.as_bytes()) {
            Ok(hop) => hop,
            Err(why) => return Ok(Explanation::of_no_destination(key, map_name, why)),
        };
        let _place = self.enter(whose)?;
        let looker = (self.looker)();
        let question = Question { hop: &hop, map_name, map, check_mx };
        Ok(explain::explain(&self.policy, &looker, question).await.with_notes_on(key))
    }

    /// The same as an HTTP response.
    pub(crate) async fn page(
        &self,
        whose: Whose,
        key: &str,
        map_name: &str,
        map: &MapOptions,
        (form, check_mx): (Form, bool),
    ) -> Text {
        match (self.explain(whose, key, map_name, map, check_mx).await, form) {
            (Ok(explanation), Form::Json) => json(&explanation),
            (Ok(explanation), Form::Text) => Text::plain(StatusCode::OK, render(&explanation, Style::default())),
            (Err(busy), _) => Text::plain(StatusCode::TOO_MANY_REQUESTS, format!("{busy}\n")),
        }
    }
}
