//! The pages, and the listeners they are served on.

use std::future::Future;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exchange::{Head, Text, serve_connection};
use super::{Explains, Pages, explain, page};
use crate::clock::Clock;
use crate::limits;
use crate::places::Places;
use crate::telemetry::metrics as names;
use crate::telemetry::repeats::Occasionally;

/// What may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All pages, with what they say of single domains.
    ThisHost,
    /// All pages, without that.
    All,
    /// `/metrics` alone: the socketmap port (postfix-tlspol's habit).
    MetricsOnly,
}

/// Serves until `shutdown` ends, then gives exchanges that have begun a moment. Connections from `trusted` count as this
/// host's own.
pub async fn run<P: Pages, E: Explains>(
    listeners: Vec<TcpListener>,
    pages: Arc<P>,
    explains: Arc<E>,
    trusted: Vec<IpNet>,
    shutdown: impl Future<Output = ()>,
) {
    let (close, closing) = watch::channel(false);
    let places = Places::new(Clock::system(), limits::HTTP_CONNECTIONS);
    let trusted: Arc<[IpNet]> = trusted.into();
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        acceptors.spawn(accept(
            listener,
            (pages.clone(), explains.clone(), trusted.clone()),
            places.clone(),
            closing.clone(),
        ));
    }
    drop(closing);
    shutdown.await;
    close.send_replace(true);
    while acceptors.join_next().await.is_some() {}
}

async fn accept<P: Pages, E: Explains>(
    listener: TcpListener,
    (pages, explains, trusted): (Arc<P>, Arc<E>, Arc<[IpNet]>),
    places: Arc<Places>,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let (unaccepted, clock) = (Occasionally::default(), Clock::system());
    loop {
        let accepted = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(held_back) = unaccepted.may_say(clock.instant()) {
                    tracing::warn!(%error, held_back, "HTTP connection not accepted");
                }
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Whoever has waited longest without asking, or without reading what it asked for, goes for a newcomer: a probe
        // is answered however many there are of those.
        let place = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            place = places.enter() => Arc::new(place),
        };
        let (pages, explains, trusted, clock) = (pages.clone(), explains.clone(), trusted.clone(), clock.clone());
        let open = metrics::gauge!(names::CONNECTIONS, "listener" => "http");
        open.increment(1.0);
        connections.spawn(async move {
            let held = place.clone();
            let serve = serve_connection(stream, true, move |head| {
                let (pages, explains, trusted) = (pages.clone(), explains.clone(), trusted.clone());
                let (place, clock) = (held.clone(), clock.clone());
                async move {
                    place.waits(clock.instant());
                    let text = if head.path() == "/explain" {
                        explain::respond(&*explains, peer.ip(), &trusted, &head).await
                    } else {
                        let is_ours = head.is_from_this_host(peer.ip(), &trusted);
                        let scope = if is_ours { Scope::ThisHost } else { Scope::All };
                        respond(&*pages, scope, &head)
                    };
                    place.idle(clock.instant());
                    text
                }
            });
            tokio::select! {
                // Kept alive for a few scrapes at most; clients of metrics connect again.
                _ = timeout(limits::HTTP_CONNECTION_TIME, serve) => {}
                () = place.told_to_leave() => {}
            }
            open.decrement(1.0);
        });
    }
    drop(listener);
    let _ = timeout(limits::HTTP_DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

/// The answer to one request.
pub fn respond<P: Pages + ?Sized>(pages: &P, scope: Scope, head: &Head) -> Text {
    let path = head.path();
    let known = match scope {
        Scope::ThisHost | Scope::All => matches!(path, "/" | "/metrics" | "/livez" | "/readyz"),
        Scope::MetricsOnly => path == "/metrics",
    };
    if !known {
        return Text::plain(StatusCode::NOT_FOUND, "not found\n");
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Text::plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    }
    match path {
        "/metrics" => Text {
            status: StatusCode::OK,
            media_type: "text/plain; version=0.0.4; charset=utf-8",
            body: pages.metrics(),
        },
        "/livez" => verdict("stuck", &pages.stuck()),
        "/readyz" => verdict("not ready", &pages.missing()),
        _ => {
            let may_ask = scope == Scope::ThisHost;
            let status = if may_ask { pages.status() } else { pages.status().without_names() };
            Text {
                status: StatusCode::OK,
                media_type: "text/html; charset=utf-8",
                body: page::render(&status, may_ask),
            }
        }
    }
}

/// Fine, or not for these reasons.
fn verdict(word: &str, reasons: &[&str]) -> Text {
    match reasons {
        [] => Text::plain(StatusCode::OK, "ok\n"),
        reasons => Text::plain(StatusCode::SERVICE_UNAVAILABLE, format!("{word}: {}\n", reasons.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::status::{SlowZone, Status};

    #[derive(Default)]
    struct Still {
        missing: Vec<&'static str>,
        stuck: Vec<&'static str>,
    }

    impl Pages for Still {
        fn metrics(&self) -> String {
            "up 1\n".to_owned()
        }
        fn stuck(&self) -> Vec<&'static str> {
            self.stuck.clone()
        }
        fn missing(&self) -> Vec<&'static str> {
            self.missing.clone()
        }
        fn status(&self) -> Status {
            let slow_zones = vec![SlowZone { zone: "slow.example".to_owned(), ..SlowZone::default() }];
            Status { slow_zones, ..Status::default() }
        }
    }

    fn ask(pages: &Still, scope: Scope, method: Method, target: &str) -> Text {
        let target = target.to_owned();
        respond(
            pages,
            scope,
            &Head {
                method,
                target,
                host: None,
                forwarded: false,
                pages: Vec::new(),
                fetch_site: None,
                wants_json: false,
            },
        )
    }

    #[test]
    fn each_page_answers_with_its_status() {
        let ready = Still::default();
        let get = |scope, path: &str| ask(&ready, scope, Method::GET, path).status.as_u16();
        for (path, all, metrics_only) in [
            ("/", 200, 404),
            ("/metrics", 200, 200),
            ("/metrics?x=1", 200, 200),
            ("/livez", 200, 404),
            ("/readyz", 200, 404),
            ("/other", 404, 404),
            ("/metrics/", 404, 404),
        ] {
            assert_eq!(get(Scope::ThisHost, path), all, "{path}");
            assert_eq!(get(Scope::All, path), all, "{path}");
            assert_eq!(get(Scope::MetricsOnly, path), metrics_only, "{path}");
        }
        assert_eq!(ask(&ready, Scope::All, Method::POST, "/metrics").status.as_u16(), 405);
        assert_eq!(ask(&ready, Scope::All, Method::HEAD, "/metrics").status.as_u16(), 200);
    }

    #[test]
    fn what_is_missing_makes_it_not_ready_and_what_is_stuck_makes_it_dead() {
        let get = |pages: &Still, path: &str| ask(pages, Scope::All, Method::GET, path);
        let waiting = Still { missing: vec!["root"], ..Still::default() };
        assert_eq!(get(&waiting, "/readyz"), Text::plain(StatusCode::SERVICE_UNAVAILABLE, "not ready: root\n"));
        assert_eq!(get(&waiting, "/livez"), Text::plain(StatusCode::OK, "ok\n"));
        let stuck = Still { stuck: vec!["event loop"], ..Still::default() };
        assert_eq!(get(&stuck, "/livez"), Text::plain(StatusCode::SERVICE_UNAVAILABLE, "stuck: event loop\n"));
    }

    #[test]
    fn domains_are_named_only_to_those_on_this_host() {
        let body = |scope| ask(&Still::default(), scope, Method::GET, "/").body;
        assert!(body(Scope::ThisHost).contains("slow.example"));
        assert!(!body(Scope::All).contains("slow.example"));
    }
}
