//! Wiring: from a configuration to a running service, and back to nothing.
//!
//! In: a checked [`Config`]. Out: [`run`], which ends when the process is told to. The order can be read top to
//! bottom: files that the configuration names, store, engines, sockets, ready, wait, drain. Never decides
//! anything about a domain; never binds a port before everything else is known to be right.

mod activation;
mod descriptors;
mod forms;
mod http_sockets;
mod maps;
mod materials;
mod memory;
mod notify;
mod operations;
mod parts;
mod pulse;
mod reload;
mod resolver_check;
mod root_watch;
mod service;
mod signals;
mod state_lock;
mod status;

use std::net::{self, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

pub use activation::ActivationError;
pub use materials::MaterialError;
pub use parts::{Parts, StartError, level_filter};

use self::activation::Activated;
use self::maps::Maps;
use self::notify::Notifier;
use self::parts::Prepared;
use self::pulse::Beat;
use self::reload::Reload;
use self::service::Lookups;
use self::signals::{Signals, Told};
use self::state_lock::Taken;
use self::status::Status;
use crate::clock::Clock;
use crate::config::{Config, Environment, Fixed, MapOptions, Shutdown, Sources};
use crate::control::{self, ControlSocket};
use crate::http::Pages;
use crate::http::status::Listening;
use crate::limits;
use crate::listener;
use crate::socketmap::{self, Listener, Threads};
use crate::telemetry::exporter::Exporter;
use crate::telemetry::logging::LogLevelHandle;

/// The options of the map of that name, as Postfix would get it.
pub fn map_options(config: &Config, name: &str) -> Option<MapOptions> {
    Maps::new(&config.maps).find(name.as_bytes()).map(|map| map.options)
}

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn run(sources: Sources, config: Config, log: LogLevelHandle, exporter: Exporter) -> Result<(), StartError> {
    let clock = Clock::system();
    let started = clock.instant();
    // First of all: the network has as many places as there may be files.
    descriptors::raise_limit();
    let fixed = Fixed::of(&sources).unwrap_or_default();
    let prepared = Prepared::new(&config, &sources.environment, &clock)?;
    let mut signals = Signals::new().map_err(StartError::Signals)?;
    let (lock, early) = match state_lock::take(&config, &exporter, &clock, &mut signals).await? {
        Taken::Ours(lock, early) => (lock, early),
        Taken::Ended => {
            tracing::info!("stopped before the state directory was free");
            return Ok(());
        }
    };
    let parts = prepared.open(&config, lock, clock.clone());
    let status = Arc::new(Status::new(exporter, &config, parts.clone(), clock.clone()));
    let maps = Maps::new(&config.maps);
    let lookups = Arc::new(Lookups::new(parts.policy.clone(), clock.clone(), maps, status.clone()));

    let sockets = Sockets::bind(&config, &sources.environment, early)?;
    let listening = sockets.listening();
    let (stop, stopping) = watch::channel(false);
    let mut servers = serve(sockets, &config, &parts, &lookups, &status, &clock, &stopping)?;
    status.set_listening(listening);

    let notifier = Notifier::new(&sources.environment);
    notifier.ready();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), started_in = ?clock.instant().duration_since(started), "ready");
    let reload = Reload {
        sources,
        log,
        lookups: lookups.clone(),
        parts: parts.clone(),
        status: status.clone(),
        clock: clock.clone(),
        fixed,
    };
    let ended = tokio::select! {
        () = wait_for_end(&mut signals, &reload, &notifier, config.shutdown) => Ok(()),
        Some(_) = servers.join_next() => Err(StartError::Ended),
        () = notifier.keep_alive(|| status.stuck().is_empty()) => Ok(()),
        () = parts.policy.clone().maintain() => Ok(()),
        () = keep_up(&parts, &status, &clock) => Ok(()),
        () = root_watch::follow(&status.root, async || parts.resolver.look_at_root().await.is_ok()) => Ok(()),
        () = follow_anchors(&parts) => Ok(()),
        () = share(&parts) => Ok(()),
        () = keep_small(&clock) => Ok(()),
        () = resolver_check::follow(&config.postfix, &status) => Ok(()),
    };

    let ending = clock.instant();
    notifier.stopping();
    status.set_stopping();
    stop.send_replace(true);
    drain(&mut servers, &lookups, &parts).await;
    if let Some(kept) = &parts.kept
        && !matches!(timeout(limits::FLUSH, kept.store.flush()).await, Ok(Ok(())))
    {
        tracing::warn!("the store could not be written to the end");
    }
    if let Some(kept) = &parts.kept {
        kept.store.close_within(limits::END.saturating_sub(clock.instant().duration_since(ending)));
    }
    tracing::info!("stopped");
    ended
}

/// Reloads at SIGHUP; returns at SIGINT, and at SIGTERM once `shutdown.linger` is over: all is served until then, but this
/// process says that it is not ready, so that whoever sends questions here stops before they are refused.
async fn wait_for_end(signals: &mut Signals, reload: &Reload, notifier: &Notifier, shutdown: Shutdown) {
    let told = loop {
        match signals.next().await {
            Told::Reload => {
                notifier.reloading(reload::monotonic());
                reload.run();
                notifier.ready();
            }
            told @ (Told::Terminate | Told::Interrupt) => break told,
        }
    };
    notifier.stopping();
    reload.status.set_stopping();
    if told == Told::Terminate && !shutdown.linger.is_zero() {
        tracing::info!(linger = ?shutdown.linger, "told to stop: serving on for a while, not ready");
        tokio::select! {
            () = sleep(shutdown.linger) => {}
            _ = signals.end() => {}
        }
    }
}

/// Everything that was asked gets its reply: what is not known in time, that it is not known yet. What is queued for the
/// disk is written meanwhile.
async fn drain(servers: &mut JoinSet<()>, lookups: &Lookups, parts: &Parts) {
    if let Some(kept) = &parts.kept {
        let store = kept.store.clone();
        tokio::spawn(async move { store.flush().await.ok() });
    }
    let mut ended = std::pin::pin!(async { while servers.join_next().await.is_some() {} });
    if timeout(limits::DRAIN, &mut ended).await.is_err() {
        tracing::warn!("lookups still under way after {:?}: answered with TEMP", limits::DRAIN);
        lookups.give_up();
        drop(timeout(limits::LAST_REPLIES, ended).await);
    }
}

/// Starts everything that answers; each ends when `stopping` says so.
fn serve(
    sockets: Sockets,
    config: &Config,
    parts: &Parts,
    lookups: &Arc<Lookups>,
    status: &Arc<Status>,
    clock: &Clock,
    stopping: &watch::Receiver<bool>,
) -> Result<JoinSet<()>, StartError> {
    let stopped = || {
        let mut stopping = stopping.clone();
        async move {
            // An error means that the sender is gone, which is the same.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    };
    let mut servers = JoinSet::new();
    let server = socketmap::Server {
        service: lookups.clone(),
        clock: clock.clone(),
        max_connections: config.socketmap.max_connections,
        threads: connection_threads()?,
    };
    servers.spawn(socketmap::run(sockets.socketmap, server, stopped()));
    let explanations = Arc::new(parts.explanations());
    let explains = operations::OverHttp { lookups: lookups.clone(), explanations: explanations.clone() };
    let trusted = config.http.trusted_sources.clone();
    servers.spawn(crate::http::run(sockets.http, status.clone(), Arc::new(explains), trusted, stopped()));
    if !sockets.dns.is_empty() {
        let forwarded = config.resolver.forward.iter().filter_map(|forward| Some(forward.zone.as_ref()?.to_name()));
        let settings = listener::ServiceSettings {
            allow: config.dns.allow.clone(),
            forwarded: forwarded.collect(),
            private_root: config.resolver.root_hints.is_some(),
        };
        let service = listener::Service::new(parts.resolver.clone(), settings, clock.clone());
        servers.spawn(listener::run(sockets.dns, service, stopped()));
    }
    if let Some(socket) = sockets.control {
        let operations = operations::OfDaemon { lookups: lookups.clone(), status: status.clone(), explanations };
        servers.spawn(control::run(socket, Arc::new(operations), clock.clone(), stopped()));
    }
    let (turning, clock, end) = (status.clone(), clock.clone(), stopped());
    servers.spawn(async move {
        tokio::select! {
            () = end => {}
            () = pulse::turn(&turning.pulse, &clock) => {}
        }
    });
    Ok(servers)
}

/// A thread for every two processors, up to a number that no mail server needs. One thread that finds many requests
/// waiting spends less on each than two that wake for a few.
fn connection_threads() -> Result<Threads, StartError> {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Threads::start(processors.div_ceil(2).min(limits::SOCKETMAP_THREADS)).map_err(StartError::Threads)
}

/// Looks at the zones' keys when it is time (RFC 5011 §2.3). Never ends.
async fn follow_anchors(parts: &Parts) {
    match &parts.kept {
        Some(kept) => kept.keeper.run().await,
        None => std::future::pending().await,
    }
}

/// Keeps the connection to the shared store. Never ends.
async fn share(parts: &Parts) {
    match parts.kept.as_ref().and_then(|kept| kept.shared.as_ref()) {
        Some(shared) => shared.run().await,
        None => std::future::pending().await,
    }
}

/// Gives back what bursts leave behind. Never ends.
async fn keep_small(clock: &Clock) {
    memory::follow(clock).await;
    std::future::pending().await
}

/// Learns the root's keys as soon as the network allows, and shows that the main task turns. Never ends.
async fn keep_up(parts: &Parts, status: &Status, clock: &Clock) {
    let mut tick = interval(limits::UPKEEP_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut pause, mut wait) = (1_u32, 0_u32);
    loop {
        tick.tick().await;
        status.pulse.beat(Beat::Main, clock.instant());
        if status.is_root_seen() {
            continue;
        }
        if wait == 0 {
            parts.resolver.warm_up();
            wait = pause;
            pause = (pause * 2).min(limits::WARM_UP_PAUSE_MOST);
        }
        wait -= 1;
    }
}

/// Everything that is bound, before anything is served.
struct Sockets {
    socketmap: Vec<Listener>,
    http: Vec<TcpListener>,
    dns: listener::Sockets,
    control: Option<ControlSocket>,
}

impl Sockets {
    /// What systemd hands over takes the place of what is configured, for each service by itself. `early` are HTTP
    /// sockets that were bound before.
    fn bind(
        config: &Config,
        environment: &Environment,
        early: Vec<(SocketAddr, net::TcpListener)>,
    ) -> Result<Self, StartError> {
        let activated = Activated::take(environment)?;
        let mut socketmap = activated.socketmap;
        if socketmap.is_empty() {
            let (mode, reuse_port) = (config.socketmap.socket_mode, config.socketmap.reuse_port);
            socketmap = Listener::bind_all(&config.socketmap.listen, mode, reuse_port)?;
        }
        for listener in &socketmap {
            tracing::info!(address = listener.local(), "socketmap listening");
        }
        let http = http_sockets::bind_all(&config.http.listen, config.socketmap.reuse_port, early)?;
        let mut dns = listener::Sockets::default();
        if activated.dns_udp.is_empty() && activated.dns_tcp.is_empty() {
            dns = listener::Sockets::bind(&config.dns.listen)?;
        } else {
            dns.adopt(activated.dns_udp, activated.dns_tcp).map_err(StartError::Adopt)?;
        }
        for error in &dns.left_out {
            tracing::warn!(%error, "dns: left out");
        }
        for address in dns.addresses() {
            tracing::info!(%address, "dns listening");
        }
        // Without it the commands do not work; mail does.
        let control = ControlSocket::bind(&config.state_dir);
        let control = control.inspect_err(|error| tracing::warn!(%error, "commands cannot reach this daemon")).ok();
        Ok(Self { socketmap, http, dns, control })
    }
}

impl Sockets {
    /// What is listened on, for `status`.
    fn listening(&self) -> Vec<Listening> {
        let of = |service: &str, address: String| Listening { service: service.to_owned(), address };
        let socketmap = self.socketmap.iter().map(|listener| of("socketmap", listener.local().to_string()));
        // An address that was bound has not gone away.
        let http = self.http.iter().filter_map(|listener| Some(of("http", listener.local_addr().ok()?.to_string())));
        let dns = self.dns.addresses().into_iter().map(|address| of("dns", address.to_string()));
        let control = self.control.iter().map(|socket| of("control", socket.path().display().to_string()));
        socketmap.chain(http).chain(dns).chain(control).collect()
    }
}
