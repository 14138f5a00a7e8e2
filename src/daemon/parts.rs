//! The engines and what they stand on, put together the same way for the daemon and for a single query.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::fs::Mode;
use tracing_subscriber::filter::LevelFilter;

use super::materials::{MaterialError, fetch_settings, forward_authorities, resolver_settings, shared_authorities};
use crate::cache::shared::SharedStore;
use crate::cache::store::{Loaded, LockError, StateLock, Store, make_state_directory};
use crate::cache::{Bounds, Forgetful, Persist, PolicyCache};
use crate::clock::{Clock, UnixTime};
use crate::config::{Config, Environment, LogLevel};
use crate::control::explanations::Explanations;
use crate::dns::{Date, text};
use crate::limits;
use crate::names::{Domain, NextHop};
use crate::policy::explain::Looker;
use crate::policy::mta_sts::fetch::HttpsFetch;
use crate::policy::{self, EngineSettings, mta_sts};
use crate::resolver;
use crate::resolver::anchors::refresh::{Keep, Keeper};
use crate::resolver::rrset::RrSet;
use crate::resolver::transport::SystemNetwork;
use crate::socketmap::BindError;

/// Why nothing was started, or why it ended. Nothing stays bound.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file that the configuration names.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Another instance has the state directory.
    #[error("state-dir: {0}")]
    StateDir(#[from] LockError),
    /// A socketmap address.
    #[error("socketmap.listen: {0}")]
    Socketmap(#[from] BindError),
    /// An HTTP address.
    #[error("http.listen: cannot listen on {address}: {source}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An address of the DNS listener.
    #[error("dns.listen: {0}")]
    Dns(#[from] crate::listener::BindError),
    /// A socket from systemd is of no use.
    #[error(transparent)]
    Activation(#[from] super::activation::ActivationError),
    /// A DNS socket from systemd cannot be used.
    #[error("DNS sockets from systemd: {0}")]
    Adopt(io::Error),
    /// No threads are to be had for connections.
    #[error("threads for connections: {0}")]
    Threads(io::Error),
    /// Signals cannot be waited for.
    #[error("signals: {0}")]
    Signals(io::Error),
    /// A server of ours has ended though nobody told it to.
    #[error("a listener has ended by itself")]
    Ended,
}

/// The engines and what they stand on, ready to answer.
#[derive(Clone)]
pub struct Parts {
    /// DNS.
    pub resolver: resolver::Engine,
    /// Policies.
    pub policy: policy::Engine,
    fetch: Arc<HttpsFetch>,
    /// What outlives the process; absent for a single query.
    pub(super) kept: Option<Kept>,
}

/// What only the daemon has: the stores, and anchors that follow the zones' keys.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) store: Arc<Store>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) shared: Option<Arc<SharedStore>>,
}

impl Parts {
    /// For one query: nothing is read from the state directory, nothing is kept. Needs a tokio runtime.
    pub fn for_one_query(config: &Config, environment: &Environment, clock: Clock) -> Result<Self, StartError> {
        let (resolver, _) = build_resolver(config, &clock)?;
        let fetch = build_fetch(config, environment, &resolver, &clock)?;
        let policy = build_policy(config, &resolver, &fetch, clock, Arc::new(Forgetful), None);
        Ok(Self { resolver, policy, fetch, kept: None })
    }

    /// What a fresh look at a domain is taken with.
    pub fn looker(&self) -> Looker {
        let dns = Arc::new(self.resolver.apart());
        let fetch = Arc::new(self.fetch.apart(dns.clone()));
        Looker { dns, fetch, roots: self.fetch.roots(), patience: limits::EXPLAIN_TIME }
    }

    /// Explanations of next hops, each with a look of its own.
    pub fn explanations(&self) -> Explanations {
        let parts = self.clone();
        Explanations::new(self.policy.clone(), Box::new(move || parts.looker()))
    }

    /// Replaces the configured trust anchors; what was learnt of unchanged ones stays.
    pub(super) fn set_trust_anchors(&self, anchors: &[RrSet]) {
        match &self.kept {
            Some(kept) => kept.keeper.configure(anchors),
            None => self.resolver.set_trust_anchors(anchors),
        }
    }

    /// Reads the CA file for policy hosts again; after an error the old CAs stay.
    pub(super) fn reload_authorities(&self) -> Result<(), MaterialError> {
        Ok(self.fetch.reload_roots()?)
    }
}

/// What the daemon is made of before it has the state directory: the files that the configuration names were read, and a
/// mistake in them has touched nothing.
pub(super) struct Prepared {
    resolver: resolver::Engine,
    anchors: Vec<RrSet>,
    fetch: Arc<HttpsFetch>,
    shared: Option<Arc<SharedStore>>,
}

impl Prepared {
    pub(super) fn new(config: &Config, environment: &Environment, clock: &Clock) -> Result<Self, StartError> {
        let (resolver, anchors) = build_resolver(config, clock)?;
        warn_of_exceptions(&resolver, clock.wall());
        let fetch = build_fetch(config, environment, &resolver, clock)?;
        let shared = build_shared(config, clock)?;
        Ok(Self { resolver, anchors, fetch, shared })
    }

    /// Reads what is kept in the state directory, which is ours, and follows the trust anchors.
    pub(super) fn open(self, config: &Config, lock: Option<StateLock>, clock: Clock) -> Parts {
        let Self { resolver, anchors, fetch, shared } = self;
        let (store, loaded) = Store::open_locked(&config.state_dir, lock, clock.clone());
        let store = Arc::new(store);
        let policy = build_policy(config, &resolver, &fetch, clock.clone(), store.clone(), shared.clone());
        restore(policy.cache(), loaded, &clock);
        let keep = Arc::new(KeptInStore(store.clone()));
        let keeper = Arc::new(Keeper::new(resolver.clone(), &anchors, keep, clock));
        Parts { resolver, policy, fetch, kept: Some(Kept { store, keeper, shared }) }
    }
}

fn build_resolver(config: &Config, clock: &Clock) -> Result<(resolver::Engine, Vec<RrSet>), StartError> {
    let settings = resolver_settings(&config.resolver, clock.wall())?;
    let anchors = settings.trust_anchors.clone();
    if anchors.is_empty() {
        tracing::error!("no trust anchor: nothing can be validated, so there is no DANE");
    }
    let network = Arc::new(SystemNetwork::new(forward_authorities(&config.resolver)?)?);
    Ok((resolver::Engine::new(settings, network, clock.clone()), anchors))
}

/// One line for each zone that is not validated, so that no exception is forgotten.
fn warn_of_exceptions(resolver: &resolver::Engine, now: UnixTime) {
    for at in resolver.exceptions() {
        let zone = text(&at.zone);
        // The end is the first second after the last day.
        let until = at.until.map_or_else(|| "further notice".to_owned(), |end| Date(end - 1).to_string());
        match (at.is_in_force(now), at.forwarded) {
            (false, _) => tracing::warn!(zone, until, "negative trust anchor has ended: the zone is validated again"),
            (true, false) => {
                tracing::warn!(zone, until, "negative trust anchor: the zone is not validated, so no DANE")
            }
            (true, true) => {
                tracing::warn!(zone, until, "forward zone with insecure = true: it is not validated, so no DANE")
            }
        }
    }
}

fn build_fetch(
    config: &Config,
    environment: &Environment,
    resolver: &resolver::Engine,
    clock: &Clock,
) -> Result<Arc<HttpsFetch>, MaterialError> {
    let settings = fetch_settings(&config.mta_sts, environment)?;
    Ok(Arc::new(HttpsFetch::new(Arc::new(resolver.clone()), settings, clock.clone())?))
}

fn build_policy(
    config: &Config,
    resolver: &resolver::Engine,
    fetch: &Arc<HttpsFetch>,
    clock: Clock,
    persist: Arc<dyn Persist>,
    shared: Option<Arc<SharedStore>>,
) -> policy::Engine {
    let entries = config.cache.max_entries;
    let bounds = Bounds { entries, bytes: limits::CACHE_BYTES_PER_ENTRY.saturating_mul(entries) };
    let cuts = resolver.clone();
    let zone_of = Arc::new(move |name: &Domain| cuts.zone_of(name));
    let mut cache = PolicyCache::new(bounds, persist).on_disk(config.cache.max_bytes).grouped_by(zone_of);
    if let Some(shared) = shared {
        cache = cache.sharing(shared);
    }
    let settings = EngineSettings {
        timeout: config.policy.timeout,
        dane: config.dane.enabled,
        mta_sts: config.mta_sts.enabled,
        prefetch: config.cache.prefetch,
        on_failure: config.policy.on_failure,
    };
    let lookup = Arc::new(resolver.clone());
    policy::Engine::new(lookup, fetch.clone(), clock, settings, config.policy.overrides.clone(), Arc::new(cache))
}

/// What other replicas share, where the configuration names it and there is something to share.
fn build_shared(config: &Config, clock: &Clock) -> Result<Option<Arc<SharedStore>>, MaterialError> {
    let authorities = shared_authorities(&config.store)?;
    let url = config.store.shared.clone().filter(|_| config.mta_sts.enabled);
    let store = url.map(|url| SharedStore::new(url, authorities, clock.clone(), mta_sts::shared::verify));
    Ok(store.map(Arc::new))
}

/// For its owner alone, and so is everything that this process makes from then on. Where it cannot be made the store says
/// so, and the service runs from memory.
pub(super) fn make_state_dir(config: &Config) {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    if let Err(error) = make_state_directory(&config.state_dir) {
        let path = config.state_dir.display();
        if config.state_dir.is_dir() {
            tracing::warn!(%path, %error, "the state directory is open to other users and stays so");
        } else {
            tracing::error!(%path, %error, "the state directory cannot be made");
        }
    }
}

/// Puts what was kept into memory, policies first: they are what must not make room for anything.
fn restore(cache: &PolicyCache, loaded: Loaded, clock: &Clock) {
    let now = clock.stamp();
    cache.reserve(loaded.sts.len().max(loaded.dane.len()));
    on_two_threads(loaded.sts, |(domain, entry)| {
        cache.restore(&NextHop::Domain { domain, port: None }, None, Some(entry), now);
    });
    on_two_threads(loaded.dane, |(hop, entry)| cache.restore(&hop, Some(entry), None, now));
}

fn on_two_threads<T: Send>(mut all: Vec<T>, take: impl Fn(T) + Sync) {
    let rest = all.split_off(all.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| rest.into_iter().for_each(&take));
        all.into_iter().for_each(&take);
    });
}

/// State of the trust anchors, in the store.
struct KeptInStore(Arc<Store>);

impl Keep for KeptInStore {
    fn load(&self, name: &str) -> Option<Vec<u8>> {
        self.0.blob(name)
    }

    fn save(&self, name: &str, octets: &[u8]) {
        let (store, name, octets) = (self.0.clone(), name.to_owned(), octets.to_vec());
        tokio::spawn(async move {
            if let Err(error) = store.save_blob(&name, octets).await {
                tracing::warn!(name, %error, "state of the trust anchors not written yet");
            }
        });
    }
}

/// The log level of the configuration, for `tracing`.
pub fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
