//! `/explain`: why one domain has the policy that it has, for whoever sits at this host.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use hyper::{Method, StatusCode};
use ipnet::IpNet;

use super::exchange::{Head, Text};
use super::query::parameter;

/// Whoever can explain a next hop.
pub trait Explains: Send + Sync + 'static {
    /// Explains the next hop of this key, as text or as JSON.
    fn explain(&self, key: String, json: bool) -> BoxFuture<'static, Text>;
}

/// Answers `GET /explain?domain=…`. An explanation names domains that mail goes to and makes us ask the world about
/// them: that is for this host alone, and not for web pages that a browser on this host happens to show.
pub(super) async fn respond<E: Explains>(explains: &E, peer: IpAddr, trusted: &[IpNet], head: &Head) -> Text {
    if !head.is_from_this_host(peer, trusted) {
        let text = "explanations are given over loopback alone: ask for http://localhost/…, or `postseal explain`\n";
        return Text::plain(StatusCode::FORBIDDEN, text);
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Text::plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    }
    let (_, query) = head.target.split_once('?').unwrap_or_default();
    match parameter(query, "domain").or_else(|| parameter(query, "key")) {
        Some(key) if !key.trim().is_empty() => explains.explain(key.trim().to_owned(), head.wants_json).await,
        Some(_) | None => Text::plain(StatusCode::BAD_REQUEST, "domain= expected\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Explains for Echo {
        fn explain(&self, key: String, json: bool) -> BoxFuture<'static, Text> {
            Box::pin(async move { Text::plain(StatusCode::OK, format!("{key} {json}")) })
        }
    }

    fn head(host: &str, target: &str) -> Head {
        Head {
            method: Method::GET,
            target: target.to_owned(),
            host: Some(host.to_owned()),
            forwarded: false,
            pages: Vec::new(),
            fetch_site: None,
            wants_json: false,
        }
    }

    #[tokio::test]
    async fn explanations_stay_on_this_host() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        let mapped = "::ffff:127.0.0.1".parse().expect("an address");
        let target = "/explain?domain=example.com";
        for (peer, host, status) in [
            (here, "localhost", 200),
            (here, "LOCALHOST:9642", 200),
            (here, "localhost.", 200),
            (here, "127.0.0.1:9642", 200),
            (here, "127.1.2.3", 200),
            (here, "[::1]:9642", 200),
            (mapped, "localhost", 200),
            (there, "localhost", 403),
            (here, "postseal.example", 403),
            (here, "localhost.example.com:9642", 403),
            (here, "127.0.0.1.example.com", 403),
            (here, "192.0.2.1", 403),
            (here, "[::2]", 403),
            (here, "[::1", 403),
            (here, "", 403),
            (here, "localhost:80@postseal.example", 403),
            (here, "[::1]postseal.example", 403),
            (here, "0.0.0.0", 403),
        ] {
            assert_eq!(respond(&Echo, peer, &[], &head(host, target)).await.status.as_u16(), status, "{peer} {host}");
        }
    }

    #[tokio::test]
    async fn trusted_sources_count_as_this_host_where_they_speak_of_this_host() {
        let trusted: Vec<IpNet> = ["172.17.0.1/32", "fd00::/64"].map(|net| net.parse().expect("a network")).to_vec();
        let head = |host| head(host, "/explain?domain=example.com");
        for (peer, host, status) in [
            ("172.17.0.1", "localhost:9642", 200),
            ("::ffff:172.17.0.1", "127.0.0.1:9642", 200),
            ("fd00::7", "localhost", 200),
            ("127.0.0.1", "localhost", 200),
            ("172.17.0.2", "localhost", 403),
            ("fd00:0:0:1::7", "localhost", 403),
            ("172.17.0.1", "postseal.example", 403),
        ] {
            let from = peer.parse().expect("an address");
            assert_eq!(respond(&Echo, from, &trusted, &head(host)).await.status.as_u16(), status, "{peer} {host}");
        }
        let forwarded = Head { forwarded: true, ..head("localhost") };
        assert_eq!(respond(&Echo, IpAddr::from([172, 17, 0, 1]), &trusted, &forwarded).await.status.as_u16(), 403);
    }

    #[tokio::test]
    async fn a_proxy_speaks_for_somebody_else() {
        let forwarded = Head { forwarded: true, ..head("localhost", "/explain?domain=example.com") };
        assert_eq!(respond(&Echo, IpAddr::from([127, 0, 0, 1]), &[], &forwarded).await.status.as_u16(), 403);
    }

    #[tokio::test]
    async fn another_sites_page_gets_nothing_through_a_browser_here() {
        let here = IpAddr::from([127, 0, 0, 1]);
        for (site, status) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)] {
            let head = Head { fetch_site: Some(site.to_owned()), ..head("localhost", "/explain?domain=example.com") };
            assert_eq!(respond(&Echo, here, &[], &head).await.status.as_u16(), status, "{site}");
        }
    }

    #[tokio::test]
    async fn a_browser_too_old_for_sec_fetch_headers_tells_by_origin_or_referer() {
        let here = IpAddr::from([127, 0, 0, 1]);
        for (page, status) in [
            ("http://localhost:9642", 200),
            ("http://LocalHost:9642/", 200),
            ("http://localhost:9642/?domain=example.com", 200),
            ("http://localhost:3000", 403),
            ("http://localhost", 403),
            ("https://localhost:9642", 403),
            ("http://127.0.0.1:9642", 403),
            ("http://evil.example", 403),
            ("http://localhost:9642@evil.example/", 403),
            ("http://localhost:9642.evil.example/", 403),
            ("file:///tmp/page.html", 403),
            ("null", 403),
            ("", 403),
        ] {
            let pages = vec![page.to_owned()];
            let head = Head { pages, ..head("localhost:9642", "/explain?domain=example.com") };
            assert_eq!(respond(&Echo, here, &[], &head).await.status.as_u16(), status, "{page}");
        }
    }

    #[tokio::test]
    async fn the_key_comes_from_the_query_and_the_form_from_what_is_accepted() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let ask = async |target: &str| respond(&Echo, here, &[], &head("localhost", target)).await;
        assert_eq!(ask("/explain?domain=%5Bmx.example.com%5D%3A25").await.body, "[mx.example.com]:25 false");
        assert_eq!(ask("/explain?key=example.com").await.body, "example.com false");
        assert_eq!(ask("/explain?domain=%20").await.status.as_u16(), 400);
        assert_eq!(ask("/explain").await.status.as_u16(), 400);
        let json = Head { wants_json: true, ..head("localhost", "/explain?domain=example.com") };
        assert_eq!(respond(&Echo, here, &[], &json).await.body, "example.com true");
        let post = Head { method: Method::POST, ..head("localhost", "/explain?domain=example.com") };
        assert_eq!(respond(&Echo, here, &[], &post).await.status.as_u16(), 405);
    }
}
