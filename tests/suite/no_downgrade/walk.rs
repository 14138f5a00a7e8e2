//! A walk at random over what can become of one domain: faults come and go, its owner changes the policy, a shared store
//! lies, time passes, the process starts again. No answer on the way is weaker than what is true of the domain and was
//! learnt of its policy; and once all is well, the answers are those of an engine that has never seen a fault.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use hickory_proto::rr::RecordType::{A, AAAA, MX, TLSA, TXT};
use parking_lot::Mutex;
use postseal::cache::entry::HeldPolicy;
use postseal::cache::shared::{Shared, SharedCopy};
use postseal::cache::{Bounds, Forgetful, PolicyCache};
use postseal::clock::Clock;
use postseal::config::{MapOptions, OnFailure, Overrides, ReportLevel};
use postseal::dns::Security::{Insecure, Secure};
use postseal::dns::{BoxFuture, Cause, Found};
use postseal::names::Domain;
use postseal::policy::mta_sts::shared::verify;
use postseal::policy::mta_sts::{Fetch, FetchError, FetchedPolicy};
use postseal::policy::reply::render;
use postseal::policy::{Engine, EngineSettings};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use crate::policy::script::{Dns, Host, START, hop, pass};

const WALKS: u64 = 60;
const STEPS: usize = 40;
const DOMAIN: &str = "example.com";
const HOSTS: [&str; 3] = ["mx1.example.net", "mx2.example.net", "mx3.example.net"];
const KEYS: [&str; 4] = [DOMAIN, "example.com:2525", "[example.com]", "[example.com]:587"];
const PORTS: [u16; 3] = [25, 587, 2525];
/// Seconds of each pause in which renewals run in the background.
const UPKEEP: u64 = 60;
const MAX_AGE: i64 = 7 * 86_400;
/// A policy counts as seen for a day from when it was learnt, which may be an hour (the TTL) before it is answered.
const SEEN: i64 = 86_400 - 3_700;

/// What is true of a host, for as long as the walk lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usable,
    Unusable,
    /// In a signed zone, without TLSA records.
    Without,
    /// In a zone that is proven to be unsigned.
    Unsigned,
    Absent,
}

impl Kind {
    fn has_records(self) -> bool {
        matches!(self, Self::Usable | Self::Unusable)
    }
}

/// What its owner has published: policies by their `id`, which is their place here.
#[derive(Clone, Debug)]
struct Published {
    mode: &'static str,
    mx: Vec<&'static str>,
}

impl Published {
    fn text(&self) -> String {
        let lines: String = self.mx.iter().map(|mx| format!("mx: {mx}\n")).collect();
        format!("version: STSv1\nmode: {}\n{lines}max_age: {MAX_AGE}\n", self.mode)
    }

    fn any(random: &mut StdRng) -> Self {
        let mode = ["enforce", "enforce", "testing", "none"][random.random_range(0..4)];
        let mx = match random.random_range(0..3) {
            0 => vec!["*.example.net", DOMAIN],
            1 => vec![HOSTS[0], DOMAIN],
            _ => vec![HOSTS[0], HOSTS[1]],
        };
        Self { mode, mx }
    }
}

/// The truth of a walk.
#[derive(Clone, Debug)]
struct Truth {
    secure_mx: bool,
    hosts: Vec<Kind>,
    /// The name itself, as a smart host.
    own: Kind,
    /// The last one is announced; none where there is no MTA-STS.
    published: Vec<Published>,
}

impl Truth {
    fn any(random: &mut StdRng) -> Self {
        use Kind::{Absent, Unsigned, Unusable, Usable, Without};
        let kind = |random: &mut StdRng| {
            [Usable, Usable, Unusable, Without, Unsigned, Unsigned, Absent][random.random_range(0..7)]
        };
        let hosts = (0..random.random_range(1..=HOSTS.len())).map(|_| kind(random)).collect();
        let own = kind(random);
        let published = if random.random_range(0..4) == 0 { Vec::new() } else { vec![Published::any(random)] };
        Self { secure_mx: random.random_range(0..4) > 0, hosts, own, published }
    }

    /// The hosts that get the mail of this key, with their names.
    fn hosts_of(&self, key: &str) -> Vec<(&'static str, Kind)> {
        let all = match key.starts_with('[') {
            true => vec![(DOMAIN, self.own)],
            false => HOSTS.into_iter().zip(self.hosts.iter().copied()).collect(),
        };
        all.into_iter().filter(|(_, kind)| *kind != Kind::Absent).collect()
    }
}

/// What is wrong at the moment.
#[derive(Clone, Debug, Default)]
struct Faults {
    mx: bool,
    txt: bool,
    addresses: [bool; 4],
    tlsa: [bool; 4],
    fetch: Option<FetchError>,
    slow: bool,
}

/// Puts truth and faults into the script.
fn publish(dns: &Dns, host: &Host, truth: &Truth, faults: &Faults) {
    let security = if truth.secure_mx { Secure } else { Insecure };
    match faults.mx {
        true => _ = dns.fails(DOMAIN, MX, Cause::Timeout),
        false => _ = dns.mx(DOMAIN, security, &HOSTS[..truth.hosts.len()]),
    }
    let all = HOSTS.into_iter().zip(truth.hosts.iter().copied()).chain([(DOMAIN, truth.own)]);
    for (at, (name, kind)) in all.enumerate() {
        match kind {
            Kind::Absent => {
                dns.nothing(name, A, Found::NoData, Secure).nothing(name, AAAA, Found::NoData, Secure);
            }
            Kind::Unsigned => _ = dns.address(name, Insecure).unsigned(name, 3_600),
            Kind::Usable | Kind::Unusable | Kind::Without => _ = dns.address(name, Secure),
        }
        if faults.addresses[at] {
            dns.fails(name, A, Cause::ServFail).fails(name, AAAA, Cause::Timeout);
        }
        for tlsa in PORTS.map(|port| format!("_{port}._tcp.{name}")) {
            match kind {
                _ if faults.tlsa[at] => _ = dns.bogus(&tlsa, TLSA),
                Kind::Usable | Kind::Unusable => _ = dns.tlsa(&tlsa, Secure, kind == Kind::Usable),
                Kind::Without | Kind::Unsigned | Kind::Absent => _ = dns.nothing(&tlsa, TLSA, Found::NxDomain, Secure),
            }
        }
    }
    let record = format!("_mta-sts.{DOMAIN}");
    match truth.published.last() {
        _ if faults.txt => _ = dns.fails(&record, TXT, Cause::Timeout),
        Some(policy) => {
            dns.sts(DOMAIN, 600, &truth.published.len().to_string());
            host.serves(DOMAIN, &policy.text());
        }
        None => _ = dns.nothing(&record, TXT, Found::NxDomain, Insecure),
    }
    if let Some(error) = &faults.fetch {
        host.fails(DOMAIN, error.clone());
    } else if let Some(policy) = truth.published.last() {
        host.serves(DOMAIN, &policy.text());
        if faults.slow {
            host.delay(DOMAIN, std::time::Duration::from_secs(15));
        }
    }
}

/// A policy file that was handed to the engine: when, and whether it says `enforce`.
type Learnt = Arc<Mutex<Vec<(i64, bool)>>>;

/// The policy host, and what was learnt from it.
#[derive(Clone)]
struct Witness {
    host: Host,
    clock: Clock,
    learnt: Learnt,
}

impl Fetch for Witness {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<FetchedPolicy, FetchError>> {
        Box::pin(async move {
            let result = self.host.fetch(domain).await;
            if let Ok(fetched) = &result {
                let enforces = String::from_utf8_lossy(&fetched.body).contains("mode: enforce");
                self.learnt.lock().push((self.clock.wall(), enforces));
            }
            result
        })
    }
}

/// What replicas share, as somebody else wants it to be.
struct Replicas {
    entry: Mutex<Option<SharedCopy>>,
    clock: Clock,
}

impl Shared for Replicas {
    fn find<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Option<Arc<HeldPolicy>>> {
        let held = self.entry.lock().as_ref().and_then(|copy| verify(copy, self.clock.wall()).ok());
        Box::pin(std::future::ready(held.map(Arc::new)))
    }

    fn offer(&self, _: &Domain, _: &Arc<HeldPolicy>) {}

    fn forget(&self, _: &Domain) {}
}

/// One walk.
struct Walk {
    random: StdRng,
    truth: Truth,
    faults: Faults,
    dns: Dns,
    witness: Witness,
    replicas: Arc<Replicas>,
    settings: EngineSettings,
    engine: Engine,
    upkeep: JoinHandle<()>,
    /// By key, when it was last answered with what counts as a policy that was seen.
    seen: [Option<i64>; KEYS.len()],
    log: String,
    wrong: Vec<String>,
    /// What was answered, with the verdict of DANE that it rests on.
    met: BTreeSet<String>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

fn engine(dns: &Dns, witness: &Witness, replicas: &Arc<Replicas>, settings: EngineSettings) -> Engine {
    let bounds = Bounds { entries: 1_000, bytes: 1 << 24 };
    let cache = Arc::new(PolicyCache::new(bounds, Arc::new(Forgetful)).sharing(replicas.clone()));
    let (lookup, fetch) = (Arc::new(dns.clone()), Arc::new(witness.clone()));
    Engine::new(lookup, fetch, witness.clock.clone(), settings, Overrides::default(), cache)
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let truth = Truth::any(&mut random);
        let on_failure = [OnFailure::Temp, OnFailure::May, OnFailure::Encrypt][random.random_range(0..3)];
        let settings = EngineSettings { on_failure, ..EngineSettings::default() };
        let (dns, clock) = (Dns::default(), Clock::manual(START));
        let witness = Witness { host: Host::default(), clock: clock.clone(), learnt: Learnt::default() };
        let replicas = Arc::new(Replicas { entry: Mutex::default(), clock });
        let engine = engine(&dns, &witness, &replicas, settings);
        let upkeep = tokio::spawn(engine.clone().maintain());
        let (faults, seen) = (Faults::default(), [None; KEYS.len()]);
        let log = format!("walk {seed}: {on_failure:?}, {truth:?}\n");
        let (wrong, met) = Default::default();
        let walk =
            Self { random, truth, faults, dns, witness, replicas, settings, engine, upkeep, seen, log, wrong, met };
        walk.publish();
        walk
    }

    fn publish(&self) {
        publish(&self.dns, &self.witness.host, &self.truth, &self.faults);
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        _ = writeln!(self.log, "  {} s: {what}", self.witness.clock.wall() - START);
    }

    fn map(&mut self) -> MapOptions {
        match self.random.random_range(0..4) {
            0 => MapOptions { tlsrpt: true, report_level: Some(ReportLevel::May), ..MapOptions::default() },
            1 => MapOptions { tlsrpt: true, ..MapOptions::default() },
            _ => MapOptions::default(),
        }
    }

    async fn step(&mut self) {
        let at = self.random.random_range(0..self.faults.addresses.len());
        match self.random.random_range(0..16) {
            0 => self.faults.mx ^= true,
            1 | 2 => self.faults.txt ^= true,
            3 | 4 => self.faults.addresses[at] ^= true,
            5 | 6 => self.faults.tlsa[at] ^= true,
            7 => self.faults.slow ^= true,
            8 | 9 => {
                let errors = [None, Some(FetchError::Status(503)), Some(FetchError::Timeout), Some(FetchError::Broken)];
                self.faults.fetch = errors[self.random.random_range(0..errors.len())].clone();
            }
            10 if !self.truth.published.is_empty() => {
                let policy = Published::any(&mut self.random);
                self.note(format_args!("published {policy:?}"));
                self.truth.published.push(policy);
            }
            11 | 12 => self.lie(),
            13 => return self.restart().await,
            _ => {}
        }
        let faults = format!("{:?}", self.faults);
        self.note(faults);
        self.publish();
        let seconds = [0, 1, 15, 61, 301, 3_601, 30_000, 90_000, 700_000];
        let seconds = seconds[self.random.random_range(0..seconds.len())];
        self.pass(seconds).await;
    }

    /// Lets time pass, of which upkeep sees the last part: it looks around every second, and days have many.
    async fn pass(&mut self, seconds: u64) {
        if seconds > UPKEEP {
            self.upkeep.abort();
            pass(seconds - UPKEEP).await;
            self.upkeep = tokio::spawn(self.engine.clone().maintain());
        }
        pass(seconds.min(UPKEEP)).await;
    }

    /// Somebody writes into the shared store: something weak under one `id` or another, nothing, or an older policy.
    fn lie(&mut self) {
        let count = self.truth.published.len();
        let id = if self.random.random_range(0..3) == 0 { "0".to_owned() } else { count.to_string() };
        let mode = ["none", "testing", "enforce"][self.random.random_range(0..3)];
        let enforced = self.truth.published.iter().rev().find(|policy| policy.mode == "enforce");
        let text = match (mode, enforced) {
            ("enforce", Some(policy)) => Some(policy.text()),
            ("enforce", None) => None,
            (mode, _) => Some(Published { mode, mx: vec![HOSTS[0]] }.text()),
        };
        self.note(format_args!("shared: {id} {mode} {}", text.is_some()));
        let fetched_at = self.witness.clock.wall();
        *self.replicas.entry.lock() = text.map(|text| SharedCopy {
            domain: DOMAIN.into(),
            id: id.into(),
            fetched_at,
            text: text.as_str().into(),
        });
    }

    /// The process starts again, with what was kept.
    async fn restart(&mut self) {
        self.upkeep.abort();
        // What is under way ends with the process; here it is waited for.
        pass(200).await;
        self.note("started again");
        let rows = self.engine.cache().rows();
        self.engine = engine(&self.dns, &self.witness, &self.replicas, self.settings);
        let now = self.witness.clock.stamp();
        for (hop, row) in rows {
            let sts = row.sts.filter(|_| hop.plain().is_none());
            let (dane, sts) = (row.dane.map(|dane| dane.entry), sts.map(|sts| (*sts.entry).clone()));
            self.engine.cache().restore(&hop, dane, sts, now);
        }
        self.upkeep = tokio::spawn(self.engine.clone().maintain());
    }

    /// Since when a policy with `enforce` is in force, as far as it was learnt from its owner.
    fn in_force(&self) -> bool {
        let now = self.witness.clock.wall();
        self.witness.learnt.lock().last().is_some_and(|(at, enforces)| *enforces && now < at + MAX_AGE - 1)
    }

    async fn ask(&mut self) {
        let at = self.random.random_range(0..KEYS.len());
        let (key, map) = (KEYS[at], self.map());
        let before = self.in_force();
        let decision = self.engine.answer(&hop(key), &map).await;
        let verdict = decision.dane.as_ref().map(|view| view.entry.verdict);
        self.met.insert(format!("{verdict:?}: {}", decision.outcome.label()));
        let reply = render(&decision, &hop(key), &map).to_string();
        let in_force = before && self.in_force();
        self.note(format_args!("{key}: {reply}{}", if in_force { " (in force)" } else { "" }));
        if let Some(why) = self.weaker(at, &reply, in_force) {
            self.wrong.push(format!("{}=> {why}", self.log));
        }
        if reply == "OK dane-only" {
            self.seen[at] = Some(self.witness.clock.wall());
        } else if reply.starts_with("OK secure ") {
            // The policy is that of the name, whatever the key.
            self.seen = [Some(self.witness.clock.wall()); KEYS.len()];
        }
    }

    /// Why this reply is weaker than it may be, or says what is not so.
    fn weaker(&self, at: usize, reply: &str, in_force: bool) -> Option<String> {
        let hosts = self.truth.hosts_of(KEYS[at]);
        let secure_mx = self.truth.secure_mx || KEYS[at].starts_with('[');
        let has = |kind| hosts.iter().any(|(_, other)| *other == kind);
        let any_records = hosts.iter().any(|(_, kind)| kind.has_records());
        if reply.starts_with("TEMP ") {
            return None;
        }
        if reply == "OK dane-only" {
            return (!(has(Kind::Usable) && secure_mx)).then(|| "no host can be reached".to_owned());
        }
        if reply == "OK dane" {
            let all_usable = secure_mx && hosts.iter().all(|(_, kind)| *kind == Kind::Usable);
            return match (in_force, all_usable && !hosts.is_empty()) {
                (true, _) => Some("hosts without TLSA records although a policy is in force".to_owned()),
                (_, true) => Some("DANE is mandatory here".to_owned()),
                (false, false) => None,
            };
        }
        if let Some(attributes) = reply.strip_prefix("OK secure match=") {
            let matched: Vec<&str> = attributes.split(' ').next()?.split(':').collect();
            let allows = |pattern: &str, host: &str| match pattern.strip_prefix('.') {
                Some(parent) => host.split_once('.').is_some_and(|(_, above)| above == parent),
                None => pattern == host,
            };
            let overridden = |(host, kind): &&(&str, Kind)| {
                secure_mx && *kind == Kind::Usable && matched.iter().any(|pattern| allows(pattern, host))
            };
            if let Some((host, _)) = hosts.iter().find(overridden) {
                return Some(format!("DANE of {host} is overridden"));
            }
            let owned = |pattern: &&str| {
                let enforced = self.truth.published.iter().filter(|policy| policy.mode == "enforce");
                let mut all = enforced.flat_map(|policy| policy.mx.iter());
                all.any(|mx| mx.trim_start_matches('*') == *pattern || allows(mx.trim_start_matches('*'), pattern))
            };
            return (!matched.iter().all(owned)).then(|| "a host that no policy of its owner allows".to_owned());
        }
        let is_fallback = matches!(reply, "OK may" | "OK encrypt");
        if in_force {
            return Some("a policy is in force".to_owned());
        }
        if is_fallback {
            let seen = self.seen[at].is_some_and(|seen| self.witness.clock.wall() - seen < SEEN);
            return seen.then(|| "a policy was seen".to_owned());
        }
        any_records.then(|| "there are TLSA records".to_owned())
    }

    /// All is well, and every back-off has passed: the answers are those of an engine that knows nothing but the truth.
    async fn end(&mut self) {
        self.faults = Faults::default();
        self.publish();
        self.note("all is well again");
        self.pass(3_700).await;
        *self.replicas.entry.lock() = None;
        let fresh = engine(&self.dns, &self.witness, &self.replicas, self.settings);
        for key in KEYS {
            let map = MapOptions::default();
            let mut replies = Vec::new();
            for engine in [&self.engine, &fresh] {
                _ = engine.answer(&hop(key), &map).await;
                replies.push(render(&engine.answer(&hop(key), &map).await, &hop(key), &map).to_string());
            }
            if replies[0] != replies[1] {
                self.wrong.push(format!("{}=> {key} in the end {:?}, not {:?}", self.log, replies[0], replies[1]));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_walk_over_faults_lies_and_restarts_meets_an_answer_weaker_than_what_is_known() {
    let mut met = BTreeSet::new();
    for seed in 0..WALKS {
        let mut walk = Walk::new(seed);
        for _ in 0..STEPS {
            walk.step().await;
            walk.ask().await;
        }
        walk.end().await;
        assert!(walk.wrong.is_empty(), "{}", walk.wrong.join("\n"));
        met.append(&mut walk.met);
    }
    for row in [
        "Some(DaneOnly): dane-only",
        "Some(Dane): dane",
        "Some(Dane): dane-only",
        "Some(DaneWeak): dane",
        "Some(DaneWeak): secure",
        "Some(Partial): dane",
        "Some(Partial): secure",
        "Some(Partial): temp",
        "Some(None): notfound",
        "Some(None): secure",
        "Some(Temporary): temp",
        "Some(Temporary): fallback",
    ] {
        assert!(met.contains(row), "{row} was not met; these were: {met:?}");
    }
}
