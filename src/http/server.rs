//! The pages, and the listeners they are served on.

use std::future::Future;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exchange::{Text, serve_connection};
use super::{Explains, Pages, explain};
use crate::limits;
use crate::telemetry::metrics as names;

/// Which pages a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// `/metrics` alone: the socketmap port (postfix-tlspol's habit).
    MetricsOnly,
}

/// Serves until `shutdown` ends, then gives exchanges that have begun a moment.
pub async fn run<P: Pages, E: Explains>(
    listeners: Vec<TcpListener>,
    pages: Arc<P>,
    explains: Arc<E>,
    shutdown: impl Future<Output = ()>,
) {
    let (close, closing) = watch::channel(false);
    let places = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS));
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        acceptors.spawn(accept(listener, (pages.clone(), explains.clone()), places.clone(), closing.clone()));
    }
    drop(closing);
    shutdown.await;
    close.send_replace(true);
    while acceptors.join_next().await.is_some() {}
}

async fn accept<P: Pages, E: Explains>(
    listener: TcpListener,
    (pages, explains): (Arc<P>, Arc<E>),
    places: Arc<Semaphore>,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        // The place first: until there is one, the kernel's queue holds newcomers.
        let place = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            Ok(place) = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "HTTP connection not accepted");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (pages, explains) = (pages.clone(), explains.clone());
        let open = metrics::gauge!(names::CONNECTIONS, "listener" => "http");
        open.increment(1.0);
        connections.spawn(async move {
            let serve = serve_connection(stream, true, move |head| {
                let (pages, explains) = (pages.clone(), explains.clone());
                async move {
                    match head.target.split('?').next() {
                        Some("/explain") => explain::respond(&*explains, peer.ip(), &head).await,
                        _ => respond(&*pages, Scope::All, &head.method, &head.target),
                    }
                }
            });
            // Kept alive for a few scrapes at most; clients of metrics connect again.
            let _ = timeout(limits::HTTP_CONNECTION_TIME, serve).await;
            open.decrement(1.0);
            drop(place);
        });
    }
    drop(listener);
    let _ = timeout(limits::HTTP_DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

/// The answer to one request.
pub fn respond<P: Pages + ?Sized>(pages: &P, scope: Scope, method: &Method, target: &str) -> Text {
    let path = target.split('?').next().unwrap_or(target);
    let known = match scope {
        Scope::All => matches!(path, "/" | "/metrics" | "/livez" | "/readyz"),
        Scope::MetricsOnly => path == "/metrics",
    };
    if !known {
        return Text::plain(StatusCode::NOT_FOUND, "not found\n");
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Text::plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    }
    match path {
        "/metrics" => Text {
            status: StatusCode::OK,
            media_type: "text/plain; version=0.0.4; charset=utf-8",
            body: pages.metrics(),
        },
        "/livez" => Text::plain(StatusCode::OK, "ok\n"),
        "/readyz" => match pages.missing().as_slice() {
            [] => Text::plain(StatusCode::OK, "ok\n"),
            missing => Text::plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", "))),
        },
        _ => Text { status: StatusCode::OK, media_type: "text/html; charset=utf-8", body: front_page(pages) },
    }
}

fn front_page<P: Pages + ?Sized>(pages: &P) -> String {
    let missing = pages.missing();
    let status = if missing.is_empty() { "ready".to_owned() } else { format!("not ready: {}", missing.join(", ")) };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>postseal</title></head><body>\n\
         <h1>postseal {}</h1>\n<p>{status}</p>\n<ul>\n<li><a href=\"/metrics\">metrics</a></li>\n\
         <li><a href=\"/livez\">livez</a></li>\n<li><a href=\"/readyz\">readyz</a></li>\n</ul>\n</body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Still(Vec<&'static str>);

    impl Pages for Still {
        fn metrics(&self) -> String {
            "up 1\n".to_owned()
        }
        fn missing(&self) -> Vec<&'static str> {
            self.0.clone()
        }
    }

    #[test]
    fn each_page_answers_with_its_status() {
        let (ready, waiting) = (Still(vec![]), Still(vec!["root"]));
        let get = |pages: &Still, scope, path: &str| respond(pages, scope, &Method::GET, path).status.as_u16();
        for (path, all, metrics_only) in [
            ("/", 200, 404),
            ("/metrics", 200, 200),
            ("/metrics?x=1", 200, 200),
            ("/livez", 200, 404),
            ("/readyz", 200, 404),
            ("/other", 404, 404),
            ("/metrics/", 404, 404),
        ] {
            assert_eq!(get(&ready, Scope::All, path), all, "{path}");
            assert_eq!(get(&ready, Scope::MetricsOnly, path), metrics_only, "{path}");
        }
        assert_eq!(get(&waiting, Scope::All, "/readyz"), 503);
        assert_eq!(get(&waiting, Scope::All, "/livez"), 200);
        assert!(respond(&waiting, Scope::All, &Method::GET, "/readyz").body.contains("root"));
        assert_eq!(respond(&ready, Scope::All, &Method::POST, "/metrics").status.as_u16(), 405);
        assert_eq!(respond(&ready, Scope::All, &Method::HEAD, "/metrics").status.as_u16(), 200);
    }
}
