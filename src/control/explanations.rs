//! Explanations within bounds: a few at a time, each with a look of its own.

use hyper::StatusCode;
use tokio::sync::Semaphore;

use super::routes::json;
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
    places: Semaphore,
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
#[error("{EXPLANATIONS} explanations are under way, which is as many as there may be; try again in a moment")]
pub struct Busy;

impl Explanations {
    /// Of what `policy` knows; `looker` gives what a fresh look is taken with.
    pub fn new(policy: Engine, looker: Box<dyn Fn() -> Looker + Send + Sync>) -> Self {
        Self { policy, looker, places: Semaphore::new(EXPLANATIONS) }
    }

    /// Explains the next hop of `key` at a map.
    pub async fn explain(
        &self,
        key: &str,
        map_name: &str,
        map: &MapOptions,
        check_mx: bool,
    ) -> Result<Explanation, Busy> {
        let hop = match NextHop::parse(key.as_bytes()) {
            Ok(hop) => hop,
            Err(why) => return Ok(Explanation::of_no_destination(key, map_name, why)),
        };
        let _place = self.places.try_acquire().map_err(|_| Busy)?;
        let looker = (self.looker)();
        Ok(explain::explain(&self.policy, &looker, Question { hop: &hop, map_name, map, check_mx }).await)
    }

    /// The same as an HTTP response.
    pub(crate) async fn page(
        &self,
        key: &str,
        map_name: &str,
        map: &MapOptions,
        (form, check_mx): (Form, bool),
    ) -> Text {
        match (self.explain(key, map_name, map, check_mx).await, form) {
            (Ok(explanation), Form::Json) => json(&explanation),
            (Ok(explanation), Form::Text) => Text::plain(StatusCode::OK, render(&explanation, Style::default())),
            (Err(busy), _) => Text::plain(StatusCode::TOO_MANY_REQUESTS, format!("{busy}\n")),
        }
    }
}
