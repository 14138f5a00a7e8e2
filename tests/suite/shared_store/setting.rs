//! Replicas that share a store: whole policy engines on a scripted TXT record and policy host, in real time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, RecordType};
use parking_lot::Mutex;
use postseal::cache::shared::{LinkState, SharedStore};
use postseal::cache::{Bounds, Forgetful, PolicyCache};
use postseal::clock::Clock;
use postseal::config::{MapOptions, Overrides, SharedUrl};
use postseal::dns::{Answer, BoxFuture, Failure, Found, Lookup, Security};
use postseal::names::{Domain, NextHop};
use postseal::policy::engine::{Engine, EngineSettings};
use postseal::policy::mta_sts::shared::verify;
use postseal::policy::mta_sts::{Fetch, FetchError, FetchedPolicy};
use postseal::policy::reply::render;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A pause between looks at something that takes its time; what it is waited for is bounded, not slept.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// What the owners of domains publish: `id` and policy.
#[derive(Clone, Default)]
pub struct Owners(Arc<Mutex<HashMap<String, (String, String)>>>);

impl Owners {
    pub fn publish(&self, domain: &str, id: &str, mode: &str, mx: &str) {
        let policy = format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n");
        self.0.lock().insert(domain.to_owned(), (id.to_owned(), policy));
    }
}

/// The internet as one replica sees it.
struct Internet {
    owners: Owners,
    blocked: AtomicBool,
    fetches: AtomicUsize,
}

impl Lookup for Internet {
    fn lookup<'a>(&'a self, name: &'a Name, _: RecordType) -> BoxFuture<'a, Result<Answer, Failure>> {
        let domain = name.base_name().to_ascii().trim_end_matches('.').to_owned();
        let text = self.owners.0.lock().get(&domain).map(|(id, _)| format!("v=STSv1; id={id};"));
        let found = text.map_or(Found::NoData, |text| Found::Records(vec![RData::TXT(TXT::new(vec![text]))]));
        let answer = Answer { found, canonical: name.clone(), security: Security::Insecure, ttl: 60 };
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn zone_known_signed(&self, _: &Name) -> bool {
        false
    }
}

impl Fetch for Internet {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<FetchedPolicy, FetchError>> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let policy = self.owners.0.lock().get(domain.as_str()).map(|(_, policy)| policy.clone());
        let served = policy.filter(|_| !self.blocked.load(Ordering::SeqCst));
        let result = served.map(|policy| FetchedPolicy { body: policy.into_bytes() }).ok_or(FetchError::Status(503));
        Box::pin(std::future::ready(result))
    }
}

/// One replica; its connection ends with it.
pub struct Replica {
    engine: Engine,
    pub store: Arc<SharedStore>,
    pub clock: Clock,
    internet: Arc<Internet>,
    keeper: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Replica {
    /// Connects to the store at `url`, which need not be there.
    pub fn new(url: &str, authorities: Option<String>, owners: &Owners) -> Self {
        let clock = Clock::manual(Clock::system().wall());
        let url = SharedUrl::parse(url).unwrap();
        let store = SharedStore::new(url, authorities.map(String::into_bytes), clock.clone(), verify);
        let store = Arc::new(store);
        let (blocked, fetches) = Default::default();
        let internet = Arc::new(Internet { owners: owners.clone(), blocked, fetches });
        let bounds = Bounds { entries: 10_000, bytes: 64 << 20 };
        let cache = Arc::new(PolicyCache::new(bounds, Arc::new(Forgetful)).sharing(store.clone()));
        let settings = EngineSettings { dane: false, ..EngineSettings::default() };
        let (lookup, fetch) = (internet.clone(), internet.clone());
        let engine = Engine::new(lookup, fetch, clock.clone(), settings, Overrides::default(), cache);
        let run = store.clone();
        let keeper = tokio::spawn(async move { run.run().await });
        Self { engine, store, clock, internet, keeper }
    }

    /// Likewise, connected.
    pub async fn connected(url: &str, authorities: Option<String>, owners: &Owners) -> Self {
        let replica = Self::new(url, authorities, owners);
        replica.until(LinkState::Up).await;
        replica
    }

    /// Its policy fetches fail from now on.
    pub fn block(&self) {
        self.internet.blocked.store(true, Ordering::SeqCst);
    }

    pub fn unblock(&self) {
        self.internet.blocked.store(false, Ordering::SeqCst);
    }

    pub fn fetches(&self) -> usize {
        self.internet.fetches.load(Ordering::SeqCst)
    }

    pub async fn ask(&self, domain: &str) -> String {
        let (hop, map) = (NextHop::parse(domain.as_bytes()).unwrap(), MapOptions::default());
        render(&self.engine.answer(&hop, &map).await, &hop, &map).to_string()
    }

    /// The reply, and how long it took.
    pub async fn timed(&self, domain: &str) -> (String, Duration) {
        let begun = Instant::now();
        (self.ask(domain).await, begun.elapsed())
    }

    pub fn purge(&self, domain: &str) -> bool {
        self.engine.cache().remove(&NextHop::parse(domain.as_bytes()).unwrap())
    }

    /// Waits for the link to be like that.
    pub async fn until(&self, link: LinkState) {
        eventually("link", async || self.store.status().link == link).await;
    }

    /// Waits until everything was written.
    pub async fn written(&self) {
        eventually("writes", async || self.store.status().pending == 0).await;
    }
}

/// The answer for a policy in force with this MX host.
pub fn secure(mx: &str) -> String {
    format!("OK secure match={mx} servername=hostname")
}

/// Waits for something to come true, for a bounded time.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
