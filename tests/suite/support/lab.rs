//! The engine on a test world: over real sockets, or in memory with its clocks in the test's hand.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use postseal::clock::Clock;
use postseal::dns::{Answer, Failure, Found, Lookup, Security};
use postseal::resolver::engine::Engine;
use postseal::resolver::rrset::RrSet;
use postseal::resolver::settings::Settings;
use postseal::resolver::transport::{SystemNetwork, mozilla_roots};

use super::memory::MemoryNetwork;
use super::serve::Served;
use super::world::World;
use super::zone::Zone;

/// When worlds in memory happen.
pub const NOW: i64 = 1_800_000_000;
/// One exchange in memory.
pub const ROUND_TRIP: Duration = Duration::from_millis(20);

/// An engine and the world it sees.
pub struct Lab {
    pub world: Arc<World>,
    pub engine: Engine,
    pub clock: Clock,
    /// Present in memory.
    pub memory: Option<Arc<MemoryNetwork>>,
    /// Present over sockets; serves as long as it lives.
    pub served: Option<Served>,
}

impl Lab {
    /// Over UDP and TCP on loopback.
    pub async fn on_sockets(zones: Vec<Zone>) -> Self {
        let clock = Clock::system();
        let world = Arc::new(World::build(clock.wall(), zones));
        let served = Served::start(world.clone()).await;
        let settings = Settings { upstream_port: served.port, ..settings(&world) };
        let network = Arc::new(SystemNetwork::new(mozilla_roots()).unwrap());
        let engine = Engine::new(settings, network, clock.clone());
        Self { world, engine, clock, memory: None, served: Some(served) }
    }

    /// In memory; needs tokio's paused clock.
    pub fn in_memory(zones: Vec<Zone>) -> Self {
        Self::in_memory_with(zones, |world| MemoryNetwork::new(world, ROUND_TRIP), |_| {})
    }

    /// In memory, with a network and settings of the test's choice.
    pub fn in_memory_with(
        zones: Vec<Zone>,
        network: impl FnOnce(Arc<World>) -> MemoryNetwork,
        adjust: impl FnOnce(&mut Settings),
    ) -> Self {
        let world = Arc::new(World::build(NOW, zones));
        Self::on_world(world.clone(), network(world), adjust)
    }

    /// A new engine, which knows nothing, on a world that is there.
    pub fn on_world(world: Arc<World>, network: MemoryNetwork, adjust: impl FnOnce(&mut Settings)) -> Self {
        let clock = Clock::manual(world.now);
        let mut settings = settings(&world);
        adjust(&mut settings);
        let network = Arc::new(network);
        let engine = Engine::new(settings, network.clone(), clock.clone());
        Self { world, engine, clock, memory: Some(network), served: None }
    }

    pub async fn lookup(&self, name: &str, rtype: RecordType) -> Result<Answer, Failure> {
        self.engine.lookup(&hickory(name), rtype).await
    }

    /// A lookup in one word: `secure 2`, `insecure nodata`, `bogus`, `failed: …`.
    pub async fn verdict(&self, name: &str, rtype: RecordType) -> String {
        verdict(&self.lookup(name, rtype).await)
    }
}

/// See [`Lab::verdict`].
pub fn verdict(outcome: &Result<Answer, Failure>) -> String {
    match outcome {
        Err(failure) if failure.is_bogus() => "bogus".to_owned(),
        Err(failure) => format!("failed: {}", failure.cause),
        Ok(answer) => {
            let security = if answer.security == Security::Secure { "secure" } else { "insecure" };
            match &answer.found {
                Found::Records(records) => format!("{security} {}", records.len()),
                Found::NoData => format!("{security} nodata"),
                Found::NxDomain => format!("{security} nxdomain"),
            }
        }
    }
}

/// What the engine needs to know of a world.
pub fn settings(world: &World) -> Settings {
    let hints: Vec<(Name, IpAddr)> =
        world.hints().into_iter().map(|(name, address)| (hickory(&name.to_string()), address)).collect();
    Settings {
        ipv6: Some(true),
        allow_private_servers: true,
        root_hints: hints,
        trust_anchors: vec![anchor(world, ".")],
        ..Settings::default()
    }
}

/// The DS RRset of a zone of the world, as an anchor.
pub fn anchor(world: &World, zone: &str) -> RrSet {
    let rdatas = world.anchor(zone).into_iter().map(Vec::into_boxed_slice).collect();
    RrSet { name: hickory(zone), rtype: RecordType::DS, ttl: 86_400, rdatas, sigs: Vec::new() }
}

pub fn hickory(name: &str) -> Name {
    let mut name = Name::from_str(name).unwrap();
    name.set_fqdn(true);
    name
}
