//! What can be asked: one function per path.

use hyper::{Method, StatusCode};
use serde::Serialize;

use super::explanations::{Form, Whose};
use super::purge::Purge;
use super::report::{Report, examine};
use super::{Operations, listing};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::config::MapOptions;
use crate::http::{Head, Text, parameter};
use crate::names::NextHop;
use crate::telemetry::clean::clean_json;

/// Answers one request.
pub(super) async fn respond<O: Operations>(operations: &O, clock: &Clock, head: &Head, caller: Caller) -> Text {
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    match (&head.method, path) {
        (&Method::GET, "/explain") => explain(operations, query, head.wants_json, caller).await,
        (&Method::GET, "/query") => query_domain(operations, clock, query).await,
        (&Method::GET, "/ready") => ready(operations),
        (&Method::GET, "/status") => json(&operations.status()),
        (&Method::GET, "/dump") => dump(operations, clock, caller),
        (&Method::GET, "/export") => export(operations, clock, caller),
        (&Method::POST, "/purge") => purge(operations, query, caller).await,
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

async fn explain<O: Operations>(operations: &O, query: &str, accepts_json: bool, caller: Caller) -> Text {
    let Some(key) = parameter(query, "key") else { return Text::plain(StatusCode::BAD_REQUEST, "key= expected\n") };
    let name = parameter(query, "map").unwrap_or_else(|| "QUERY".to_owned());
    let Some(map) = operations.map(&name) else {
        return Text::plain(StatusCode::NOT_FOUND, format!("no map named {name}\n"));
    };
    let form =
        if accepts_json || parameter(query, "format").as_deref() == Some("json") { Form::Json } else { Form::Text };
    let check_mx = parameter(query, "check-mx").as_deref() == Some("1");
    operations.explanations().page(Whose::of(caller), &key, &name, &map, (form, check_mx)).await
}

fn ready<O: Operations>(operations: &O) -> Text {
    match operations.missing().as_slice() {
        [] => Text::plain(StatusCode::OK, "ready\n"),
        missing => Text::plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", "))),
    }
}

fn dump<O: Operations>(operations: &O, clock: &Clock, caller: Caller) -> Text {
    listing::told_everything("dump", caller);
    json(&listing::rows(operations.policy(), &usual_map(operations), clock.stamp()))
}

fn export<O: Operations>(operations: &O, clock: &Clock, caller: Caller) -> Text {
    listing::told_everything("export", caller);
    Text::plain(StatusCode::OK, listing::export(operations.policy(), &usual_map(operations), clock.stamp()))
}

/// Forgets one next hop, or all where that is said in so many words; the answer says how many, once it would survive a
/// crash.
async fn purge<O: Operations>(operations: &O, query: &str, caller: Caller) -> Text {
    let wanted = match (parameter(query, "key"), parameter(query, "all").as_deref()) {
        (None, Some("1")) => Purge::All,
        (Some(key), None) => match Purge::of(key.as_bytes()) {
            Ok(purge) => purge,
            Err(error) => return Text::plain(StatusCode::BAD_REQUEST, format!("{key}: {error}\n")),
        },
        _ => return Text::plain(StatusCode::BAD_REQUEST, "key=, or all=1, expected\n"),
    };
    let count = wanted.run(operations.policy(), caller).await;
    Text::plain(StatusCode::OK, format!("{count} purged\n"))
}

/// What listings show: the map that Postfix is told to use first.
fn usual_map<O: Operations>(operations: &O) -> MapOptions {
    operations.map("QUERY").unwrap_or_default()
}

/// A JSON response.
pub(super) fn json(value: &impl Serialize) -> Text {
    match serde_json::to_string(value) {
        Ok(body) => {
            let body = clean_json(&body).into_owned() + "\n";
            Text { status: StatusCode::OK, media_type: "application/json", body }
        }
        Err(error) => Text::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
