//! The page `/`: the status for people, in one file that loads nothing. Everything but the query box works without
//! scripts, and the query box then leads to plain text.

use std::fmt::Write;
use std::sync::LazyLock;

use data_encoding::BASE64;
use ring::digest;

use super::status::{Anchor, Failing, InsecureZone, Listening, SlowZone, Status, size, span};
use crate::clock::UnixTime;
use crate::telemetry::clean::clean;

/// The page with places for the status.
const TEMPLATE: &str = include_str!("page.html");

/// What a browser may do with it: its own style and script, asking us, nothing else.
pub static SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let inside = TEMPLATE.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
        let digest = digest::digest(&digest::SHA256, inside.map_or("", |(inside, _)| inside).as_bytes());
        format!("'sha256-{}'", BASE64.encode(digest.as_ref()))
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
        hash("style"),
        hash("script")
    )
});

/// The page; with the query box only for those who may ask.
pub fn render(status: &Status, may_ask: bool) -> String {
    let mut body = String::new();
    figures(&mut body, status);
    if may_ask {
        body.push_str(
            "<section><h2>Why?</h2><form action=\"/explain\"><label for=\"domain\">What Postfix is told about a domain, \
             and why</label><input id=\"domain\" name=\"domain\" required placeholder=\"example.com\" maxlength=\"300\" \
             autocapitalize=\"off\" autocomplete=\"off\" spellcheck=\"false\"><button>Explain</button></form><pre></pre>\
             </section>",
        );
    }
    table(
        &mut body,
        "Trust anchors",
        ANCHOR_COLUMNS,
        &status.trust_anchors,
        "None: nothing can be validated.",
        |key| anchor(key, status.now),
    );
    if may_ask && !status.insecure.is_empty() {
        table(&mut body, "Zones that are not validated", INSECURE_COLUMNS, &status.insecure, "None.", insecure);
    }
    table(&mut body, "Failures within the last hour", FAILURE_COLUMNS, &status.failures, "None.", |failing| {
        failure(failing, status.now)
    });
    if may_ask {
        table(
            &mut body,
            "Slowest zones",
            ZONE_COLUMNS,
            &status.slow_zones,
            "None was asked within the last hour.",
            zone,
        );
    }
    table(&mut body, "Listening", LISTENER_COLUMNS, &status.listeners, "On nothing.", listener);
    TEMPLATE.replacen("<!--head-->", &head(status), 1).replacen("<!--body-->", &body, 1)
}

fn head(status: &Status) -> String {
    let state = match status.missing.as_slice() {
        [] => "<span class=\"state ready\">ready</span>".to_owned(),
        missing => format!("<span class=\"state waiting\">not ready: {}</span>", escape(&missing.join(", "))),
    };
    format!("<h1>postseal</h1><span class=\"version\">{}</span>{state}", escape(&status.version))
}

fn figures(out: &mut String, status: &Status) {
    let hit_rate = status.hit_rate.map_or_else(|| "–".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
    let store = match status.store.failing {
        true => "<span class=\"failing\">cannot be written</span>".to_owned(),
        false => escape(&size(status.store.bytes)),
    };
    let root = match status.root_reachable {
        true => "reached and validated".to_owned(),
        false => "<span class=\"failing\">cannot be reached or validated</span>".to_owned(),
    };
    let mut figures = vec![
        ("root", root),
        ("up", escape(&span(i64::try_from(status.uptime).unwrap_or(i64::MAX)))),
        ("queries answered", status.queries.to_string()),
        ("from memory", escape(&hit_rate)),
        ("next hops known", status.cache_entries.to_string()),
        ("DNS cache", escape(&size(status.resolver_cache_bytes))),
        ("store", store),
    ];
    if let Some(shared) = &status.shared_store {
        let class = if shared.state == "down" { " class=\"failing\"" } else { "" };
        figures.push(("shared store", format!("<span{class}>{}</span>", escape(&shared.state))));
    }
    out.push_str("<section><dl class=\"figures\">");
    for (name, value) in figures {
        // Writing into a String cannot fail.
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl></section>");
}

/// A heading and the class of its column.
type Column = (&'static str, &'static str);

const ANCHOR_COLUMNS: &[Column] =
    &[("zone", ""), ("key tag", ""), ("state", ""), ("keys seen", ""), ("next look", "wide")];
const INSECURE_COLUMNS: &[Column] = &[("zone", "name"), ("because of", ""), ("last day", "")];
const FAILURE_COLUMNS: &[Column] = &[("reason", ""), ("count", "number"), ("last", "wide"), ("at", "name")];
const ZONE_COLUMNS: &[Column] = &[
    ("zone", "name"),
    ("time", "number"),
    ("longest", "number wide"),
    ("questions", "number"),
    ("unanswered", "number wide"),
];
const LISTENER_COLUMNS: &[Column] = &[("service", ""), ("address", "name")];

fn anchor(key: &Anchor, now: UnixTime) -> Vec<String> {
    let seen = match key.refreshed_at {
        0 => "not yet".to_owned(),
        at => format!("{} ago", span(now.saturating_sub(at))),
    };
    let state = format!("{} for {}", key.state, span(now.saturating_sub(key.since)));
    let next = format!("in {}", span(key.next_refresh.saturating_sub(now)));
    vec![key.zone.clone(), format!("{} (algorithm {})", key.tag, key.algorithm), state, seen, next]
}

fn insecure(zone: &InsecureZone) -> Vec<String> {
    let why = if zone.forward { "insecure = true of the forward zone" } else { "negative trust anchor" };
    let until = zone.until.clone().unwrap_or_else(|| "–".to_owned());
    let until = if zone.ended { format!("{until}: ended") } else { until };
    vec![zone.zone.clone(), why.to_owned(), until]
}

fn failure(failing: &Failing, now: UnixTime) -> Vec<String> {
    let last = format!("{} ago", span(now.saturating_sub(failing.last)));
    vec![failing.reason.clone(), failing.count.to_string(), last, failing.example.clone()]
}

fn zone(slow: &SlowZone) -> Vec<String> {
    let milliseconds = |seconds: f64| format!("{:.0} ms", seconds * 1_000.0);
    let (time, longest) = (milliseconds(slow.seconds), milliseconds(slow.longest));
    vec![slow.zone.clone(), time, longest, slow.questions.to_string(), slow.failed.to_string()]
}

fn listener(listening: &Listening) -> Vec<String> {
    vec![listening.service.clone(), listening.address.clone()]
}

fn table<T>(
    out: &mut String,
    title: &str,
    columns: &[Column],
    rows: &[T],
    none: &str,
    cells: impl Fn(&T) -> Vec<String>,
) {
    let _ = write!(out, "<section><h2>{title}</h2>");
    if rows.is_empty() {
        let _ = write!(out, "<p class=\"none\">{none}</p></section>");
        return;
    }
    out.push_str("<div class=\"scroll\"><table><thead><tr>");
    for (heading, class) in columns {
        let _ = write!(out, "<th class=\"{class}\">{heading}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (cell, (_, class)) in cells(row).iter().zip(columns) {
            let _ = write!(out, "<td class=\"{class}\">{}</td>", escape(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></section>");
}

/// Text as HTML, in elements and in quoted attributes; it may come from anywhere.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in clean(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::status::SharedStoreStatus;

    const EVIL: &str = "<script>alert('1')</script>\"&";

    #[test]
    fn nothing_that_a_stranger_named_becomes_markup() {
        let status = Status {
            version: EVIL.into(),
            missing: vec![EVIL.into()],
            listeners: vec![Listening { service: EVIL.into(), address: EVIL.into() }],
            trust_anchors: vec![Anchor { zone: EVIL.into(), state: EVIL.into(), ..Anchor::default() }],
            failures: vec![Failing { reason: EVIL.into(), example: EVIL.into(), ..Failing::default() }],
            slow_zones: vec![SlowZone { zone: EVIL.into(), ..SlowZone::default() }],
            insecure: vec![InsecureZone { zone: EVIL.into(), until: Some(EVIL.into()), ..InsecureZone::default() }],
            ..Status::default()
        };
        let page = render(&status, true);
        assert!(!page.contains("<script>alert") && !page.contains("alert('1')"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;").count(), 11);
    }

    #[test]
    fn nothing_on_the_page_turns_its_reading_direction_around() {
        let zone = "slow\u{202e}.example\u{1b}\u{85}".to_owned();
        let page =
            render(&Status { slow_zones: vec![SlowZone { zone, ..SlowZone::default() }], ..Status::default() }, true);
        assert!(page.contains("slow?.example? ") && !page.contains(['\u{202e}', '\u{1b}', '\u{85}']), "{page}");
    }

    #[test]
    fn a_shared_store_shows_its_state_and_not_where_it_is() {
        let shared = |state: &str| {
            let (url, state) = ("redis://store.internal".to_owned(), state.to_owned());
            let shared_store = Some(SharedStoreStatus { url, state, ..SharedStoreStatus::default() });
            render(&Status { shared_store, ..Status::default() }, false)
        };
        assert!(shared("up").contains("<dt>shared store</dt><dd><span>up</span></dd>"));
        assert!(shared("down").contains("<span class=\"failing\">down</span>"));
        assert!(!shared("down").contains("internal") && !render(&Status::default(), false).contains("shared store"));
    }

    #[test]
    fn the_query_box_and_zones_are_for_those_who_may_ask() {
        let slow_zones = vec![SlowZone { zone: "slow.example".into(), ..SlowZone::default() }];
        let status = Status { slow_zones, ..Status::default() };
        let (for_us, for_all) = (render(&status, true), render(&status, false));
        assert!(for_us.contains("<form") && for_us.contains("slow.example"));
        assert!(!for_all.contains("<form") && !for_all.contains("slow.example"));
    }

    #[test]
    fn the_page_loads_nothing_from_anywhere_and_its_policy_says_so() {
        let links = TEMPLATE.split("href=\"").skip(1).chain(TEMPLATE.split("src=\"").skip(1));
        assert!(links.into_iter().all(|link| link.starts_with('/')), "{TEMPLATE}");
        assert!(!TEMPLATE.contains("@import") && !TEMPLATE.contains("url(") && !TEMPLATE.contains(" style="));
        assert_eq!((TEMPLATE.matches("<style>").count(), TEMPLATE.matches("<script>").count()), (1, 1));
        assert!(SECURITY_POLICY.starts_with("default-src 'none'; style-src 'sha256-"), "{}", *SECURITY_POLICY);
        assert!(!SECURITY_POLICY.contains("unsafe"));
    }
}
