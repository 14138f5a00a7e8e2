//! Plays one script: steps in order, on a paused clock, listener and engine in between.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use postseal::clock::{Clock, UnixTime};
use postseal::listener::{Service, ServiceSettings, Transport};
use postseal::resolver::Engine;
use postseal::resolver::anchors::file::parse_anchors;
use postseal::resolver::anchors::refresh::{Keep, Keeper, word};
use postseal::resolver::message::{Message, Query};
use postseal::resolver::settings::Settings;
use tokio::task::JoinSet;
use tracing_subscriber::fmt::MakeWriter;

use super::expect::differences;
use super::records::parse_name;
use super::script::{Entry, Script, Step};
use super::servers::{Asked, ScriptedServers};

/// 2017-11-15, for scripts that name no time: nothing in them is signed.
const ANY_TIME: i64 = 1_510_704_000;

/// What came of a script.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Expectations that do not hold, with their step.
    pub differences: Vec<String>,
    /// Checks made.
    pub checks: usize,
    /// What the engine asked.
    pub asked: Vec<Asked>,
}

/// Plays a script in a world and a time of its own.
pub fn play(script: Script) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    runtime.expect("a runtime").block_on(run(Arc::new(script), &log))
}

async fn run(script: Arc<Script>, log: &Log) -> Outcome {
    let servers = Arc::new(ScriptedServers::new(Arc::clone(&script)));
    let clock = Clock::manual(script.wall.unwrap_or(ANY_TIME));
    let stored = Arc::new(Stored::default());
    let begin = || Program::begin(&script, servers.clone(), clock.clone(), stored.clone());
    let mut program = begin();
    let mut outcome = Outcome::default();
    let mut answer = None;
    for (number, step) in &script.steps {
        servers.set_step(*number);
        match step {
            Step::Query(entry) => answer = ask(&program.service, entry).await,
            Step::TimePasses(seconds) => program.time_passes(Duration::from_secs(*seconds)).await,
            Step::Restart => {
                drop(program);
                program = begin();
            }
            Step::CheckAnchors(expected) => {
                outcome.checks += 1;
                let states = program.states(expected, clock.wall());
                if states != *expected {
                    outcome.differences.push(format!("step {number}: {states:?} instead of {expected:?}"));
                }
            }
            Step::CheckLog(expected) => {
                outcome.checks += 1;
                if !log.text().contains(expected) {
                    outcome.differences.push(format!("step {number}: nothing like `{expected}` is logged"));
                }
            }
            Step::Check(expected) => {
                outcome.checks += 1;
                let found = match &answer {
                    Some(answer) => differences(expected, answer),
                    None => vec!["no answer".to_owned()],
                };
                outcome.differences.extend(found.into_iter().map(|difference| format!("step {number}: {difference}")));
            }
        }
    }
    outcome.asked = servers.asked();
    outcome
}

/// What runs of the program: the service, and what follows the trust anchors.
struct Program {
    service: Arc<Service<Engine>>,
    keeper: Option<Arc<Keeper>>,
    _following: JoinSet<()>,
}

impl Program {
    fn begin(script: &Script, servers: Arc<ScriptedServers>, clock: Clock, stored: Arc<Stored>) -> Self {
        let settings = settings(script);
        let anchors = settings.trust_anchors.clone();
        let engine = Engine::new(settings, servers, clock.clone());
        let mut following = JoinSet::new();
        let keeper = script.follow_anchors.then(|| {
            let keeper = Arc::new(Keeper::new(engine.clone(), &anchors, stored, clock.clone()));
            let own = keeper.clone();
            following.spawn(async move { own.run().await });
            keeper
        });
        let listener = ServiceSettings { allow: vec![CLIENT.into()], private_root: true, ..ServiceSettings::default() };
        Self { service: Service::new(engine, listener, clock), keeper, _following: following }
    }

    /// With timers of ours, each at its time; without, at once.
    async fn time_passes(&self, time: Duration) {
        match self.keeper {
            Some(_) => tokio::time::sleep(time).await,
            None => tokio::time::advance(time).await,
        }
    }

    /// Each key as `tag=state`, in the order of `expected`, and the time until the next look where that is expected.
    fn states(&self, expected: &[String], now: UnixTime) -> Vec<String> {
        let status = self.keeper.as_ref().map(|keeper| keeper.status()).unwrap_or_default();
        let mut states: Vec<String> = status.iter().map(|key| format!("{}={}", key.tag, word(key.state))).collect();
        if expected.iter().any(|word| word.starts_with("next=")) {
            states.extend(status.first().map(|key| format!("next={}", key.next_refresh - now)));
        }
        states.sort_by_key(|state| expected.iter().position(|one| one == state).unwrap_or(usize::MAX));
        states
    }
}

/// What the program logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What outlives the program.
#[derive(Default)]
struct Stored(Mutex<HashMap<String, Vec<u8>>>);

impl Keep for Stored {
    fn load(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().get(name).cloned()
    }

    fn save(&self, name: &str, octets: &[u8]) {
        self.0.lock().insert(name.to_owned(), octets.to_vec());
    }
}

fn settings(script: &Script) -> Settings {
    let anchors = script.anchors.join("\n");
    let host = parse_name("root-server.").expect("a name");
    Settings {
        ipv4: !script.no_ipv4,
        ipv6: Some(!script.no_ipv6),
        allow_private_servers: true,
        qname_minimisation: !script.no_minimisation,
        root_hints: script.roots.iter().map(|address| (host.clone(), *address)).collect(),
        // Scripts without an anchor trust nothing: all is insecure.
        trust_anchors: if anchors.is_empty() {
            Vec::new()
        } else {
            parse_anchors(&anchors, "script").expect("anchors")
        },
        ..Settings::default()
    }
}

/// The client of every scenario.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Asks as a client on this host does, through the listener; `None` where there is no answer.
async fn ask(service: &Service<Engine>, entry: &Entry) -> Option<Message> {
    let octets = match (&entry.raw, &entry.question) {
        (Some(raw), _) => raw.clone(),
        (None, Some((name, rtype))) => {
            let edns = entry.flag("DO").then(Box::default);
            let mut octets = Query { name: name.clone(), rtype: *rtype, recursion_desired: true, edns }.encode(1);
            let bit = |flag, bit| if entry.flag(flag) { bit } else { 0 };
            octets[3] = bit("AD", 0x20) | bit("CD", 0x10);
            octets
        }
        (None, None) => return None,
    };
    let answer = service.answer(&octets, CLIENT, Transport::Tcp).await?;
    Some(Message::parse(&answer).expect("answers are well formed"))
}
