//! A scripted DNS and a scripted policy host: every answer, failure and delay at will, every question counted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::rdata::{MX, TLSA, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use parking_lot::Mutex;
use postseal::cache::{Bounds, Forgetful, Persist, PolicyCache};
use postseal::clock::Clock;
use postseal::config::{MapOptions, Overrides};
use postseal::dns::{Answer, Bogus, BoxFuture, Cause, Failure, Found, Lookup, Security};
use postseal::names::{Domain, NextHop};
use postseal::policy::decision::Decision;
use postseal::policy::mta_sts::{Fetch, FetchError, FetchedPolicy};
use postseal::policy::reply::render;
use postseal::policy::{Engine, EngineSettings};

/// The calendar at the start of every script.
pub const START: i64 = 1_800_000_000;

/// What is said about one name and type.
#[derive(Clone)]
struct Line {
    result: Result<(Found, Security, u32), Cause>,
    canonical: Option<Name>,
    delay: Duration,
}

#[derive(Default)]
struct Script {
    lines: HashMap<(Name, RecordType), Line>,
    signed: HashSet<Name>,
    unsigned: HashMap<Name, u32>,
    asked: Vec<(Name, RecordType)>,
}

/// A scripted DNS. Names that are not in the script do not exist, securely.
#[derive(Clone, Default)]
pub struct Dns(Arc<Mutex<Script>>);

impl Dns {
    fn put(&self, name: &str, rtype: RecordType, line: Line) -> &Self {
        self.0.lock().lines.insert((to_name(name), rtype), line);
        self
    }

    fn records(&self, name: &str, rtype: RecordType, security: Security, ttl: u32, records: Vec<RData>) -> &Self {
        let result = Ok((Found::Records(records), security, ttl));
        self.put(name, rtype, Line { result, canonical: None, delay: Duration::ZERO })
    }

    /// MX records, with preferences in steps of ten.
    pub fn mx(&self, name: &str, security: Security, hosts: &[&str]) -> &Self {
        let mx = |(index, host): (usize, &&str)| {
            RData::MX(MX::new(u16::try_from(10 * index).expect("few hosts"), to_name(host)))
        };
        self.records(name, RecordType::MX, security, 3_600, hosts.iter().enumerate().map(mx).collect())
    }

    /// An IPv4 address, and a denial of IPv6 ones of the same security.
    pub fn address(&self, name: &str, security: Security) -> &Self {
        let address = RData::A(std::net::Ipv4Addr::new(192, 0, 2, 1).into());
        self.records(name, RecordType::A, security, 3_600, vec![address]);
        self.nothing(name, RecordType::AAAA, Found::NoData, security)
    }

    /// 127.0.0.1, and a denial of IPv6 addresses.
    pub fn loopback(&self, name: &str, security: Security) -> &Self {
        let address = RData::A(std::net::Ipv4Addr::LOCALHOST.into());
        self.records(name, RecordType::A, security, 3_600, vec![address]);
        self.nothing(name, RecordType::AAAA, Found::NoData, security)
    }

    /// IPv4 addresses in this order, and a denial of IPv6 ones.
    pub fn addresses(&self, name: &str, security: Security, addresses: &[&str]) -> &Self {
        let address = |text: &&str| RData::A(text.parse::<std::net::Ipv4Addr>().expect("an address").into());
        self.records(name, RecordType::A, security, 3_600, addresses.iter().map(address).collect());
        self.nothing(name, RecordType::AAAA, Found::NoData, security)
    }

    /// An IPv6 address, and a denial of IPv4 ones.
    pub fn address6(&self, name: &str, security: Security) -> &Self {
        let address = RData::AAAA(std::net::Ipv6Addr::LOCALHOST.into());
        self.records(name, RecordType::AAAA, security, 3_600, vec![address]);
        self.nothing(name, RecordType::A, Found::NoData, security)
    }

    /// A CNAME, as answered to a question for it.
    pub fn cname(&self, name: &str, security: Security, target: &str) -> &Self {
        let record = RData::CNAME(hickory_proto::rr::rdata::CNAME(to_name(target)));
        self.records(name, RecordType::CNAME, security, 3_600, vec![record])
    }

    /// One TLSA record, `3 1 1` unless it is to be unusable.
    pub fn tlsa(&self, name: &str, security: Security, usable: bool) -> &Self {
        let usage = if usable { 3 } else { 1 };
        let record = RData::TLSA(TLSA::new(usage.into(), 1.into(), 1.into(), vec![7; 32]));
        self.records(name, RecordType::TLSA, security, 3_600, vec![record])
    }

    pub fn txt(&self, name: &str, ttl: u32, texts: &[&str]) -> &Self {
        let records = texts.iter().map(|text| RData::TXT(TXT::new(vec![(*text).to_owned()]))).collect();
        self.records(name, RecordType::TXT, Security::Insecure, ttl, records)
    }

    /// The MTA-STS record of a domain.
    pub fn sts(&self, domain: &str, ttl: u32, id: &str) -> &Self {
        self.txt(&format!("_mta-sts.{domain}"), ttl, &[&format!("v=STSv1; id={id};")])
    }

    pub fn nothing(&self, name: &str, rtype: RecordType, found: Found, security: Security) -> &Self {
        self.put(name, rtype, Line { result: Ok((found, security, 600)), canonical: None, delay: Duration::ZERO })
    }

    pub fn fails(&self, name: &str, rtype: RecordType, cause: Cause) -> &Self {
        self.put(name, rtype, Line { result: Err(cause), canonical: None, delay: Duration::ZERO })
    }

    pub fn bogus(&self, name: &str, rtype: RecordType) -> &Self {
        self.fails(name, rtype, Cause::Bogus(Bogus::DenialNotProven))
    }

    /// Says that an answer already in the script came by aliases that end at `canonical`.
    pub fn alias(&self, name: &str, rtype: RecordType, canonical: &str) -> &Self {
        self.change(name, rtype, |line| line.canonical = Some(to_name(canonical)))
    }

    /// Delays an answer already in the script.
    pub fn delay(&self, name: &str, rtype: RecordType, delay: Duration) -> &Self {
        self.change(name, rtype, |line| line.delay = delay)
    }

    pub fn ttl(&self, name: &str, rtype: RecordType, ttl: u32) -> &Self {
        self.change(name, rtype, |line| {
            if let Ok((_, _, old)) = &mut line.result {
                *old = ttl;
            }
        })
    }

    fn change(&self, name: &str, rtype: RecordType, change: impl FnOnce(&mut Line)) -> &Self {
        change(self.0.lock().lines.get_mut(&(to_name(name), rtype)).expect("a line of the script"));
        self
    }

    /// Says that the zone of `name` is already known to be signed.
    pub fn known_signed(&self, name: &str) -> &Self {
        self.0.lock().signed.insert(to_name(name));
        self
    }

    /// Says that the zone of `name` is proven to be unsigned, for so many seconds.
    pub fn unsigned(&self, name: &str, ttl: u32) -> &Self {
        self.0.lock().unsigned.insert(to_name(name), ttl);
        self
    }

    /// How often this was asked.
    pub fn asked(&self, name: &str, rtype: RecordType) -> usize {
        let wanted = (to_name(name), rtype);
        self.0.lock().asked.iter().filter(|asked| **asked == wanted).count()
    }

    /// How often anything was asked.
    pub fn asked_at_all(&self) -> usize {
        self.0.lock().asked.len()
    }
}

impl Lookup for Dns {
    fn lookup<'a>(&'a self, name: &'a Name, rtype: RecordType) -> BoxFuture<'a, Result<Answer, Failure>> {
        let line = {
            let mut script = self.0.lock();
            script.asked.push((name.clone(), rtype));
            script.lines.get(&(name.clone(), rtype)).cloned()
        };
        Box::pin(async move {
            let nothing =
                Line { result: Ok((Found::NxDomain, Security::Secure, 600)), canonical: None, delay: Duration::ZERO };
            let line = line.unwrap_or(nothing);
            tokio::time::sleep(line.delay).await;
            let canonical = line.canonical.unwrap_or_else(|| name.clone());
            line.result
                .map(|(found, security, ttl)| Answer { found, canonical, security, ttl })
                .map_err(|cause| Failure::new(name.clone(), rtype, cause))
        })
    }

    fn zone_known_signed(&self, name: &Name) -> bool {
        self.0.lock().signed.contains(name)
    }

    fn zone_proven_insecure<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Option<u32>> {
        let left = self.0.lock().unsigned.get(name).copied();
        Box::pin(std::future::ready(left))
    }
}

fn to_name(text: &str) -> Name {
    let labels = text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    Name::from_labels(labels).expect("a name").to_lowercase()
}

/// What the policy host does, by domain.
#[derive(Clone, Default)]
pub struct Host(Arc<Mutex<HostScript>>);

#[derive(Default)]
struct HostScript {
    files: HashMap<Domain, (Result<String, FetchError>, Duration)>,
    /// Answers that come before the lasting one.
    first: HashMap<Domain, Vec<FetchError>>,
    fetched: Vec<Domain>,
}

impl Host {
    /// Serves this policy file.
    pub fn serves(&self, domain: &str, body: &str) -> &Self {
        self.0.lock().files.insert(domain.parse().expect("a domain"), (Ok(body.to_owned()), Duration::ZERO));
        self
    }

    /// Serves a plain policy.
    pub fn policy(&self, domain: &str, mode: &str, max_age: u32, mx: &str) -> &Self {
        self.serves(domain, &format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {max_age}\n"))
    }

    /// Fails from now on.
    pub fn fails(&self, domain: &str, error: FetchError) -> &Self {
        self.0.lock().files.insert(domain.parse().expect("a domain"), (Err(error), Duration::ZERO));
        self
    }

    /// Fails this often before it does what the script says.
    pub fn fails_first(&self, domain: &str, error: FetchError, times: usize) -> &Self {
        self.0.lock().first.insert(domain.parse().expect("a domain"), vec![error; times]);
        self
    }

    /// Takes this long from now on.
    pub fn delay(&self, domain: &str, delay: Duration) -> &Self {
        let domain: Domain = domain.parse().expect("a domain");
        self.0.lock().files.get_mut(&domain).expect("a file in the script").1 = delay;
        self
    }

    /// How often the policy of `domain` was fetched.
    pub fn fetched(&self, domain: &str) -> usize {
        self.0.lock().fetched.iter().filter(|fetched| fetched.as_str() == domain).count()
    }
}

impl Fetch for Host {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<FetchedPolicy, FetchError>> {
        let (result, delay) = {
            let mut script = self.0.lock();
            script.fetched.push(domain.clone());
            match script.first.get_mut(domain).and_then(Vec::pop) {
                Some(error) => (Err(error), Duration::ZERO),
                None => script.files.get(domain).cloned().unwrap_or((Err(FetchError::Status(404)), Duration::ZERO)),
            }
        };
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            result.map(|body| FetchedPolicy { body: body.into_bytes() })
        })
    }
}

/// An engine in a scripted world.
pub struct World {
    pub dns: Dns,
    pub host: Host,
    pub clock: Clock,
    pub engine: Engine,
}

impl World {
    pub fn new() -> Self {
        Self::with(EngineSettings::default(), Overrides::default(), Arc::new(Forgetful))
    }

    pub fn with(settings: EngineSettings, overrides: Overrides, persist: Arc<dyn Persist>) -> Self {
        let (dns, host, clock) = (Dns::default(), Host::default(), Clock::manual(START));
        let bounds = Bounds { entries: 1_000, bytes: 1 << 24 };
        let cache = Arc::new(PolicyCache::new(bounds, persist));
        let engine = Engine::new(
            Arc::new(dns.clone()),
            Arc::new(host.clone()),
            clock.clone(),
            settings,
            overrides,
            Arc::clone(&cache),
        );
        Self { dns, host, clock, engine }
    }

    /// Decides; and what could be answered at once must be what waiting gives.
    pub async fn decide(&self, key: &str, map: &MapOptions) -> Decision {
        let at_once = self.engine.answer_at_once(&hop(key), map, self.clock.stamp());
        let decision = self.engine.answer(&hop(key), map).await;
        assert_eq!(at_once.is_some(), decision.cached, "{key}: at once where nothing is looked up");
        if let Some(at_once) = at_once {
            assert_eq!(render(&at_once, &hop(key), map), render(&decision, &hop(key), map), "{key}");
        }
        decision
    }

    /// The reply to a key, as Postfix reads it.
    pub async fn reply(&self, key: &str, map: &MapOptions) -> String {
        render(&self.decide(key, map).await, &hop(key), map).to_string()
    }

    /// The reply of the plain map.
    pub async fn ask(&self, key: &str) -> String {
        self.reply(key, &MapOptions::default()).await
    }

    /// A domain with an MTA-STS record and policy, and no DANE.
    pub fn sts_domain(&self, domain: &str, mode: &str, max_age: u32, ttl: u32) {
        self.plain_domain(domain);
        self.dns.sts(domain, ttl, "1");
        self.host.policy(domain, mode, max_age, &format!("mx.{domain}"));
    }

    /// A domain with one host and neither DANE nor MTA-STS.
    pub fn plain_domain(&self, domain: &str) {
        let host = format!("mx.{domain}");
        self.dns.mx(domain, Security::Insecure, &[&host]).address(&host, Security::Insecure);
    }
}

pub fn hop(key: &str) -> NextHop {
    NextHop::parse(key.as_bytes()).expect("a next hop")
}

/// Lets time pass on both clocks, and what is due run.
pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
