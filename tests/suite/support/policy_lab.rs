//! The policy engine over the DNS engine over a test world: a key of Postfix in, the reply's text out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use parking_lot::Mutex;
use postseal::cache::{Bounds, Forgetful, PolicyCache};
use postseal::config::{MapOptions, Overrides};
use postseal::dns::{BoxFuture, Lookup};
use postseal::names::{Domain, NextHop};
use postseal::policy::engine::{Engine, EngineSettings};
use postseal::policy::mta_sts::{Fetch, FetchError, FetchedPolicy};
use postseal::policy::reply::render;
use tokio::time::Instant;

use super::lab::Lab;
use super::memory::MemoryNetwork;
use super::world::World;

/// Policy and DNS engine on one world.
pub struct PolicyLab {
    pub lab: Lab,
    pub engine: Engine,
}

impl PolicyLab {
    /// Policy files come through `fetch`.
    pub fn new(lab: Lab, fetch: Arc<dyn Fetch>) -> Self {
        Self::with_settings(lab, fetch, EngineSettings::default())
    }

    /// New engines, which know nothing, on a world that is there, with these policy hosts.
    pub fn on_world<'a>(
        world: &Arc<World>,
        network: MemoryNetwork,
        hosts: impl IntoIterator<Item = (&'a str, Host)>,
    ) -> Self {
        let lab = Lab::on_world(world.clone(), network, |_| {});
        let fetch = ScriptedFetch::new(&lab);
        hosts.into_iter().for_each(|(domain, host)| fetch.set(domain, host));
        Self::new(lab, fetch)
    }

    pub fn with_settings(lab: Lab, fetch: Arc<dyn Fetch>, settings: EngineSettings) -> Self {
        let bounds = Bounds { entries: 10_000, bytes: 64 << 20 };
        let cache = Arc::new(PolicyCache::new(bounds, Arc::new(Forgetful)));
        let lookup = Arc::new(lab.engine.clone());
        let engine = Engine::new(lookup, fetch, lab.clock.clone(), settings, Overrides::default(), cache);
        Self { lab, engine }
    }

    /// What Postfix is told about `key`.
    pub async fn ask(&self, key: &str) -> String {
        self.ask_map(key, &MapOptions::default()).await
    }

    pub async fn ask_map(&self, key: &str, map: &MapOptions) -> String {
        match NextHop::parse(key.as_bytes()) {
            Ok(hop) => render(&self.engine.answer(&hop, map).await, &hop, map).to_string(),
            Err(_) => "NOTFOUND ".to_owned(),
        }
    }

    /// The reply, the time it took, and the upstream queries that left meanwhile.
    pub async fn measure(&self, key: &str) -> (String, Duration, usize) {
        self.lab.world.take_asked();
        let begun = Instant::now();
        let reply = self.ask(key).await;
        (reply, begun.elapsed(), self.lab.world.take_asked().len())
    }
}

/// What a scripted policy host does.
#[derive(Clone)]
pub enum Host {
    /// Serves this policy, after so long.
    Policy(Duration, String),
    /// Fails like this.
    Fails(Box<FetchError>),
    /// Never answers; the fetch ends with its own time limit.
    Silent,
}

/// Policy hosts without sockets, for virtual time: looks the address up, as the real client does.
pub struct ScriptedFetch {
    lookup: Arc<dyn Lookup>,
    hosts: Arc<Mutex<HashMap<Domain, Host>>>,
    pub fetches: Arc<Mutex<Vec<Domain>>>,
}

impl ScriptedFetch {
    pub fn new(lab: &Lab) -> Arc<Self> {
        let lookup = Arc::new(lab.engine.clone());
        Arc::new(Self { lookup, hosts: Arc::default(), fetches: Arc::default() })
    }

    pub fn set(&self, domain: &str, host: Host) {
        self.hosts.lock().insert(Domain::parse(domain).unwrap(), host);
    }
}

impl Fetch for ScriptedFetch {
    fn over(&self, lookup: &Arc<dyn Lookup>) -> Option<Arc<dyn Fetch>> {
        Some(Arc::new(Self { lookup: lookup.clone(), hosts: self.hosts.clone(), fetches: self.fetches.clone() }))
    }

    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<FetchedPolicy, FetchError>> {
        self.fetches.lock().push(domain.clone());
        let host = self.hosts.lock().get(domain).cloned();
        Box::pin(async move {
            let name = domain.to_name().prepend_label("mta-sts").unwrap();
            let (v4, v6) =
                tokio::join!(self.lookup.lookup(&name, RecordType::A), self.lookup.lookup(&name, RecordType::AAAA));
            match (v4, v6) {
                (Ok(v4), _) if !v4.records().is_empty() => {}
                (_, Ok(v6)) if !v6.records().is_empty() => {}
                (Err(failure), _) | (_, Err(failure)) => return Err(FetchError::Dns(Box::new(failure))),
                _ => return Err(FetchError::NoAddress),
            }
            match host {
                Some(Host::Policy(after, policy)) => {
                    tokio::time::sleep(after).await;
                    Ok(FetchedPolicy { body: policy.into_bytes() })
                }
                Some(Host::Fails(error)) => Err(*error),
                Some(Host::Silent) => {
                    tokio::time::sleep(postseal::limits::STS_FETCH_TIMEOUT).await;
                    Err(FetchError::Timeout)
                }
                None => Err(FetchError::Status(404)),
            }
        })
    }
}

/// A policy in mode `enforce` for these MX hosts.
pub fn enforce(hosts: &[&str]) -> String {
    let lines: String = hosts.iter().map(|host| format!("mx: {host}\r\n")).collect();
    format!("version: STSv1\r\nmode: enforce\r\n{lines}max_age: 604800\r\n")
}
