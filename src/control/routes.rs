//! What can be asked: one function per path.

use hyper::{Method, StatusCode};
use serde::Serialize;

use super::explanations::Form;
use super::report::{Report, examine};
use super::{Operations, listing};
use crate::clock::Clock;
use crate::config::MapOptions;
use crate::http::{Head, Text, parameter};
use crate::names::NextHop;

/// Answers one request.
pub(super) async fn respond<O: Operations>(operations: &O, clock: &Clock, head: &Head) -> Text {
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    match (&head.method, path) {
        (&Method::GET, "/explain") => explain(operations, query, head.wants_json).await,
        (&Method::GET, "/query") => query_domain(operations, clock, query).await,
        (&Method::GET, "/ready") => ready(operations),
        (&Method::GET, "/status") => json(&operations.status()),
        (&Method::GET, "/dump") => dump(operations, clock),
        (&Method::GET, "/export") => export(operations, clock),
        (&Method::POST, "/purge") => purge(operations, query).await,
        (_, "/explain" | "/query" | "/ready" | "/status" | "/dump" | "/export" | "/purge") => {
            Text::plain(StatusCode::METHOD_NOT_ALLOWED, "POST for purge, GET for all else\n")
        }
        _ => Text::plain(StatusCode::NOT_FOUND, "not found\n"),
    }
}

async fn query_domain<O: Operations>(operations: &O, clock: &Clock, query: &str) -> Text {
    let key = parameter(query, "key").unwrap_or_default();
    let name = parameter(query, "map").unwrap_or_else(|| "QUERY".to_owned());
    let Some(map) = operations.map(&name) else {
        return Text::plain(StatusCode::NOT_FOUND, format!("no map named {name}\n"));
    };
    let hop = match NextHop::parse(key.as_bytes()) {
        Ok(hop) => hop,
        Err(why) => return json(&Report::of_no_destination(&key, &name, why)),
    };
    json(&examine(operations.policy(), clock, &hop, &name, &map).await)
}

async fn explain<O: Operations>(operations: &O, query: &str, accepts_json: bool) -> Text {
    let Some(key) = parameter(query, "key") else { return Text::plain(StatusCode::BAD_REQUEST, "key= expected\n") };
    let name = parameter(query, "map").unwrap_or_else(|| "QUERY".to_owned());
    let Some(map) = operations.map(&name) else {
        return Text::plain(StatusCode::NOT_FOUND, format!("no map named {name}\n"));
    };
    let form =
        if accepts_json || parameter(query, "format").as_deref() == Some("json") { Form::Json } else { Form::Text };
    let check_mx = parameter(query, "check-mx").as_deref() == Some("1");
    operations.explanations().page(&key, &name, &map, (form, check_mx)).await
}

fn ready<O: Operations>(operations: &O) -> Text {
    match operations.missing().as_slice() {
        [] => Text::plain(StatusCode::OK, "ready\n"),
        missing => Text::plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", "))),
    }
}

fn dump<O: Operations>(operations: &O, clock: &Clock) -> Text {
    json(&listing::rows(operations.policy(), &usual_map(operations), clock.stamp()))
}

fn export<O: Operations>(operations: &O, clock: &Clock) -> Text {
    Text::plain(StatusCode::OK, listing::export(operations.policy(), &usual_map(operations), clock.stamp()))
}

/// Forgets one next hop or all; the answer says how many, once it would survive a crash.
async fn purge<O: Operations>(operations: &O, query: &str) -> Text {
    let cache = operations.policy().cache();
    let count = match parameter(query, "key") {
        None if !query.is_empty() => return Text::plain(StatusCode::BAD_REQUEST, "key= expected\n"),
        None => cache.clear(),
        Some(key) => match NextHop::parse(key.as_bytes()) {
            Ok(hop) => usize::from(cache.remove(&hop)),
            Err(error) => return Text::plain(StatusCode::BAD_REQUEST, format!("{key}: {error}\n")),
        },
    };
    cache.settle().await;
    Text::plain(StatusCode::OK, format!("{count} purged\n"))
}

/// What listings show: the map that Postfix is told to use first.
fn usual_map<O: Operations>(operations: &O) -> MapOptions {
    operations.map("QUERY").unwrap_or_default()
}

/// A JSON response.
pub(super) fn json(value: &impl Serialize) -> Text {
    match serde_json::to_string(value) {
        Ok(body) => Text { status: StatusCode::OK, media_type: "application/json", body: body + "\n" },
        Err(error) => Text::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
