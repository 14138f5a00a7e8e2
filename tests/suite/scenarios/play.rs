//! Plays one script: steps in order, on a paused clock, listener and engine in between.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use postseal::clock::Clock;
use postseal::listener::{Service, Transport};
use postseal::resolver::Engine;
use postseal::resolver::anchors::file::parse_anchors;
use postseal::resolver::message::{Message, Query};
use postseal::resolver::settings::Settings;

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
    runtime.expect("a runtime").block_on(run(Arc::new(script)))
}

async fn run(script: Arc<Script>) -> Outcome {
    let servers = Arc::new(ScriptedServers::new(Arc::clone(&script)));
    let clock = Clock::manual(script.wall.unwrap_or(ANY_TIME));
    let engine = Engine::new(settings(&script), servers.clone(), clock.clone());
    let service = Service::new(engine, vec![CLIENT.into()], Vec::new(), clock);
    let mut outcome = Outcome::default();
    let mut answer = None;
    for (number, step) in &script.steps {
        servers.set_step(*number);
        match step {
            Step::Query(entry) => answer = ask(&service, entry).await,
            Step::TimePasses(seconds) => tokio::time::advance(Duration::from_secs(*seconds)).await,
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
