//! An explanation as a tree for people to read. Pure.

use super::model::{
    Answer, CacheSection, CheckSection, DeliveryKind, DsSection, Explanation, FailureSection, HostSection, KeySection,
    LiveCheck, Looked, LookedOutcome, MxSection, PolicySection, Source, StsSection, TlsaSection, Verdict, ZoneSection,
    ZoneState,
};
pub use super::tree::Style;
use super::tree::{Node, Tone};
use crate::cache::StsMode;
use crate::cache::entry::FetchFailureKind;
use crate::clock::span;

/// Octets of hexadecimal data that are shown of a TLSA record; JSON has all.
const TLSA_DATA_SHOWN: usize = 32;

/// The explanation, one line feed after each line.
pub fn render(explanation: &Explanation, style: Style) -> String {
    let (words, tone) = headline(explanation);
    let mut root = Node::new(format!("{}:", explanation.next_hop), tone, words);
    root.extend(explanation.notes.iter().map(|note| Node::plain(note.as_str())));
    root.push(answer(explanation));
    if !explanation.advice.is_empty() {
        root.push(advice(explanation));
    }
    root.push(mail_hosts(explanation));
    root.push(Node::plain("chain of trust").with(explanation.chain.iter().map(zone)));
    if let Some(sts) = &explanation.mta_sts {
        root.push(mta_sts(sts));
    }
    root.push(cache(&explanation.cached));
    root.render(style)
}

/// The verdict in words, and what a check of the MX hosts adds to it.
fn headline(explanation: &Explanation) -> (String, Tone) {
    let (words, tone) = match explanation.verdict {
        Verdict::Protected => ("protected", Tone::Good),
        Verdict::PartlyProtected => ("partly protected: at some MX hosts mail goes to whoever answers", Tone::Doubtful),
        Verdict::Weak => ("encrypted at most, nobody is authenticated", Tone::Doubtful),
        Verdict::NoPolicy => ("no policy", Tone::Doubtful),
        Verdict::NullMx => ("takes no mail (null MX)", Tone::Doubtful),
        Verdict::NoSuchDomain => ("this domain does not exist", Tone::Bad),
        Verdict::NotAMailDomain => ("not a mail domain", Tone::Bad),
        Verdict::Held => ("Postfix keeps the mail queued", Tone::Bad),
        Verdict::Undeliverable => ("every MX host fails the check: Postfix keeps the mail queued", Tone::Bad),
    };
    match &explanation.check {
        Some(check) if check.is_blocked() => {
            let text = format!("{words}; not checked: no MX host could be reached, is outbound SMTP blocked here?");
            (text, Tone::Doubtful)
        }
        Some(CheckSection { hosts, failed, .. }) if *failed > 0 && explanation.verdict != Verdict::Undeliverable => {
            (format!("{words}; but {failed} of {hosts} MX hosts fail the check"), Tone::Doubtful)
        }
        Some(CheckSection { hosts, unreachable, .. }) if *unreachable > 0 => {
            (format!("{words}; {unreachable} of {hosts} MX hosts could not be reached"), tone)
        }
        Some(_) | None => (words.to_owned(), tone),
    }
}

fn answer(explanation: &Explanation) -> Node {
    let Explanation { answer, fresh, map, .. } = explanation;
    let mut node = Node::plain(format!("answer: {} (map {map}, {})", answer.reply.trim_end(), origin(answer)));
    node.push(Node::plain(format!("because {}", answer.rule)));
    node.extend(explanation.options.iter().map(|option| Node::plain(option.as_str())));
    if let Some(fresh) = fresh.as_ref().filter(|fresh| fresh.reply != answer.reply) {
        let again = Node::new("a lookup now:", Tone::Doubtful, fresh.reply.trim_end());
        node.push(again.with([Node::plain(format!("because {}", fresh.rule))]));
    }
    node
}

fn origin(answer: &Answer) -> String {
    let ttl = answer.ttl.map_or_else(String::new, |ttl| format!(" for another {}", span(ttl)));
    match answer.source {
        Source::Override => "from policy.overrides".to_owned(),
        Source::Cache => format!("from the cache{ttl}"),
        Source::Lookup => "looked up now".to_owned(),
        Source::Key => "from the key alone".to_owned(),
    }
}

fn advice(explanation: &Explanation) -> Node {
    let items = explanation.advice.iter().map(|advice| {
        Node::new(advice.problem.as_str(), Tone::Bad, "").with([
            Node::plain(format!("who has to fix it: {}", advice.whose)),
            Node::plain(format!("how to fix it: {}", advice.remedy)),
        ])
    });
    Node::plain("problems").with(items)
}

fn mail_hosts(explanation: &Explanation) -> Node {
    let mut node = match &explanation.mx {
        Some(mx) => mx_records(mx),
        None => Node::plain("no MX lookup: the key names the host"),
    };
    node.extend(explanation.hosts.iter().map(host));
    node
}

fn mx_records(mx: &MxSection) -> Node {
    let Looked { name, outcome, failure, .. } = &mx.lookup;
    let note = mx.note.as_ref().map_or_else(String::new, |note| format!("; {note}"));
    let left_out = match mx.left_out {
        0 => String::new(),
        more => format!("; {more} more hosts are not looked at"),
    };
    match failure {
        Some(failure) => Node::new("MX records:", Tone::Bad, failure.to_string()),
        None => Node::plain(format!("MX records of {name}: {}{}{note}{left_out}", state(*outcome), ttl(&mx.lookup))),
    }
}

fn ttl(looked: &Looked) -> String {
    let canonical = looked.canonical.as_ref().map_or_else(String::new, |to| format!(", alias of {to}"));
    let ttl = looked.ttl.map_or_else(String::new, |ttl| format!(", TTL {}", span(ttl)));
    canonical + &ttl
}

fn state(outcome: LookedOutcome) -> &'static str {
    match outcome {
        LookedOutcome::Secure => "secure",
        LookedOutcome::Insecure => "not signed",
        LookedOutcome::SecurelyAbsent => "proven to be none",
        LookedOutcome::Absent => "none, not signed",
        LookedOutcome::Bogus => "bogus",
        LookedOutcome::Failed => "failed",
    }
}

fn host(host: &HostSection) -> Node {
    let (word, tone) = match host.delivery.kind {
        DeliveryKind::Authenticated => ("authenticated", Tone::Good),
        DeliveryKind::Encrypted => ("encrypted", Tone::Doubtful),
        DeliveryKind::ClearPossible => ("may be sent unencrypted", Tone::Doubtful),
        DeliveryKind::Deferred => ("deferred", Tone::Bad),
        DeliveryKind::NotUsed => ("not used", Tone::Bad),
    };
    let head = format!("{} {}: {word}:", host.preference, host.host);
    let mut node = Node::new(head, tone, host.delivery.text.as_str());
    let told_below =
        |failure: &FailureSection| host.lookups.iter().any(|looked| looked.failure.as_ref() == Some(failure));
    if let Some(failure) = host.failure.as_ref().filter(|failure| !told_below(failure)) {
        node.push(Node::new("not known:", Tone::Bad, failure.to_string()));
    }
    node.extend(host.live.iter().map(live));
    node.extend(host.lookups.iter().filter(|looked| looked.rtype != "TLSA").map(looked_up));
    if let Some(base) = &host.base {
        node.push(Node::plain(format!("TLSA base domain: {base}")));
    }
    let tlsa_lookups = host.lookups.iter().filter(|looked| looked.rtype == "TLSA");
    for looked in tlsa_lookups {
        let has_records = !looked.records.is_empty() && looked.outcome == LookedOutcome::Secure;
        let mut line = looked_up(&Looked { records: Vec::new(), ..looked.clone() });
        if has_records {
            line.extend(host.tlsa.iter().map(tlsa));
        }
        node.push(line);
    }
    node
}

fn looked_up(looked: &Looked) -> Node {
    if let Some(failure) = &looked.failure {
        let (head, text) = (format!("{} {}:", looked.name, looked.rtype), failure.to_string());
        let text = text.strip_prefix(&head).unwrap_or(&text).trim_start();
        return Node::new(head.as_str(), Tone::Bad, text);
    }
    let records = match looked.records.as_slice() {
        [] => String::new(),
        records => format!(" {}", records.join(", ")),
    };
    Node::plain(format!("{} {}:{records} ({}{})", looked.name, looked.rtype, state(looked.outcome), ttl(looked)))
}

fn live(check: &LiveCheck) -> Node {
    let tls = check.tls.as_ref().map_or_else(String::new, |tls| format!(" ({tls})"));
    let (word, tone) = if check.passed { ("passes", Tone::Good) } else { ("fails", Tone::Bad) };
    let node = Node::new(format!("{} {word}:", check.address), tone, format!("{}{tls}", check.text));
    node.with(check.presented.iter().map(|line| Node::plain(format!("its certificate would need TLSA {line}"))))
}

fn tlsa(record: &TlsaSection) -> Node {
    let shown: String = record.data.chars().take(TLSA_DATA_SHOWN).collect();
    let more = if shown.len() < record.data.len() { "…" } else { "" };
    let head = format!("{} {} {} {shown}{more}", record.usage, record.selector, record.matching_type);
    match &record.unusable {
        None => Node::new(head, Tone::Good, "usable"),
        Some(why) => Node::new(head, Tone::Doubtful, format!("not usable: {why}")),
    }
}

fn zone(zone: &ZoneSection) -> Node {
    let (word, tone) = match zone.state {
        ZoneState::Secure => ("secure", Tone::Good),
        ZoneState::Insecure => ("insecure", Tone::Doubtful),
        ZoneState::Broken => ("broken", Tone::Bad),
    };
    let mut node = Node::new(format!("{}: {word}:", zone.zone), tone, zone.text.as_str());
    if !zone.ds.is_empty() {
        let origin = if zone.anchored { "trust anchor" } else { "DS" };
        node.push(Node::plain(format!("{origin}: {}", list(zone.ds.iter().map(ds)))));
    }
    if !zone.keys.is_empty() {
        let until = zone.signed_until.as_ref().map_or_else(String::new, |day| format!("; signed until {day}"));
        node.push(Node::plain(format!("DNSKEY: {}{until}", list(zone.keys.iter().map(key)))));
    }
    if zone.state == ZoneState::Broken && !zone.servers.is_empty() {
        node.push(Node::plain(format!("servers: {}", zone.servers.join(", "))));
    }
    for habit in &zone.habits {
        node.push(Node::plain(habit));
    }
    node
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn ds(ds: &DsSection) -> String {
    let supported = if ds.supported { "" } else { ", cannot be checked" };
    format!("{} ({}, digest type {}{supported})", ds.tag, algorithm(ds.algorithm), ds.digest_type)
}

fn key(key: &KeySection) -> String {
    let role = if key.sep { "KSK" } else { "ZSK" };
    let revoked = if key.revoked { ", revoked" } else { "" };
    let named = if key.named { ", named above" } else { "" };
    format!("{} ({}, {role}{revoked}{named})", key.tag, algorithm(key.algorithm))
}

/// Mnemonic of an algorithm (IANA, DNS Security Algorithm Numbers).
fn algorithm(number: u8) -> String {
    let name = match number {
        5 => "RSASHA1",
        7 => "RSASHA1-NSEC3-SHA1",
        8 => "RSASHA256",
        10 => "RSASHA512",
        13 => "ECDSAP256SHA256",
        14 => "ECDSAP384SHA384",
        15 => "ED25519",
        16 => "ED448",
        _ => return format!("algorithm {number}"),
    };
    format!("{name}, {number}")
}

fn mta_sts(sts: &StsSection) -> Node {
    let mut node = Node::plain(format!("MTA-STS: {}", sts.status));
    if let Some(looked) = &sts.lookup {
        node.push(looked_up(looked));
    }
    if let Some(id) = &sts.id {
        node.push(Node::plain(format!("id: {id}")));
    }
    if let Some(why) = &sts.no_record {
        node.push(Node::plain(why.as_str()));
    }
    if let Some(fetch) = &sts.fetch {
        let kind = match fetch.kind {
            None => "",
            Some(FetchFailureKind::Network) => "network: ",
            Some(FetchFailureKind::Http) => "HTTP: ",
            Some(FetchFailureKind::Certificate) => "certificate: ",
            Some(FetchFailureKind::Invalid) => "not a policy: ",
        };
        node.push(match &fetch.problem {
            None => Node::new(format!("{}:", fetch.url), Tone::Good, "fetched"),
            Some(problem) => Node::new(format!("{}:", fetch.url), Tone::Bad, format!("{kind}{problem}")),
        });
        let other = fetch.policy.as_ref().filter(|fetched| {
            sts.policy.as_ref().is_none_or(|held| (held.mode, &held.mx) != (fetched.mode, &fetched.mx))
        });
        if let Some(other) = other {
            node.push(policy("policy that came just now", other));
        }
    }
    if let Some(held) = &sts.policy {
        node.push(policy("policy in force", held));
    }
    node
}

fn policy(what: &str, policy: &PolicySection) -> Node {
    let mode = match policy.mode {
        StsMode::Enforce => "enforce",
        StsMode::Testing => "testing",
        StsMode::None => "none",
    };
    let mx = if policy.mx.is_empty() { "none".to_owned() } else { policy.mx.join(", ") };
    Node::plain(format!("{what}: mode {mode}, id {}", policy.id)).with([
        Node::plain(format!("mx: {mx}")),
        Node::plain(format!(
            "max_age {}; fetched {} ago, valid for another {}",
            span(policy.max_age),
            span(policy.age),
            span(policy.valid_for)
        )),
    ])
}

fn cache(cached: &CacheSection) -> Node {
    let mut node = Node::plain("cached");
    match &cached.dane {
        None => node.push(Node::plain("DANE: nothing")),
        Some(dane) => {
            let left = if dane.ttl > 0 { format!("for another {}", span(dane.ttl)) } else { "run out".to_owned() };
            node.push(Node::plain(format!("DANE: {} ({} old, {left})", dane.reason, span(dane.age))));
        }
    }
    let Some(sts) = &cached.mta_sts else {
        node.push(Node::plain("MTA-STS: nothing"));
        return node;
    };
    let next = if sts.record_ttl > 0 { format!("again in {}", span(sts.record_ttl)) } else { "due again".to_owned() };
    let line = format!("MTA-STS: record {} (asked for {} ago, {next})", sts.record, span(sts.record_age));
    let mut line = Node::plain(line);
    if let Some(held) = &sts.policy {
        line.push(policy("policy", held));
    }
    if let Some(failure) = &sts.failure {
        let retry = if failure.retry_in > 0 { format!("in {}", span(failure.retry_in)) } else { "due".to_owned() };
        let text = format!("{} ({} in a row, next try {retry})", failure.reason, failure.count);
        line.push(Node::new("last fetch failed:", Tone::Bad, text));
    }
    node.push(line);
    node
}
