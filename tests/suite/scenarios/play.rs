//! Plays one script: steps in order, on a paused clock, the engine in between.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use postseal::clock::Clock;
use postseal::dns::Failure;
use postseal::resolver::anchors::file::parse_anchors;
use postseal::resolver::message::{Message, Query, Rcode};
use postseal::resolver::rrset::{RrSet, Rrsig};
use postseal::resolver::settings::Settings;
use postseal::resolver::{End, Engine, Flags, Part, Resolution};

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
    let engine = Engine::new(settings(&script), servers.clone(), Clock::manual(script.wall.unwrap_or(ANY_TIME)));
    let mut outcome = Outcome::default();
    let mut answer = None;
    for (number, step) in &script.steps {
        servers.set_step(*number);
        match step {
            Step::Query(entry) => answer = ask(&engine, entry).await,
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

/// Asks the engine as a client's question would be asked; `None` for what is no question at all.
async fn ask(engine: &Engine, entry: &Entry) -> Option<Message> {
    if let Some(raw) = &entry.raw {
        // What comes to a listener from anybody: it must not harm, and gets nothing.
        let _ = Message::parse(raw);
        return None;
    }
    let (name, rtype) = entry.question.clone()?;
    let flags = Flags { checking_disabled: entry.flag("CD") };
    let outcome = engine.resolve(&name, rtype, flags).await;
    let query = Query { name, rtype, recursion_desired: true, edns: None };
    let mut message = Message::parse(&query.encode(1)).expect("a well-formed question");
    message.checking_disabled = flags.checking_disabled;
    fill(&mut message, entry, outcome.as_deref());
    Some(message)
}

/// The sections and flags a client sees (RFC 4035 §3.2, RFC 6840 §5.7).
fn fill(message: &mut Message, entry: &Entry, outcome: Result<&Resolution, &Failure>) {
    let Ok(resolution) = outcome else {
        message.rcode = Rcode::ServFail;
        return;
    };
    let dnssec = entry.flag("DO");
    let sections = |parts: &[Part]| -> Vec<RrSet> {
        let shown = parts.iter().filter(|part| {
            dnssec
                || Some(part.set.rtype) == entry.question.as_ref().map(|(_, rtype)| *rtype)
                || !is_proof(part.set.rtype)
        });
        shown
            .map(|part| {
                let mut set = RrSet::clone(&part.set);
                set.ttl = part.ttl;
                if !dnssec {
                    set.sigs.clear();
                }
                set
            })
            .collect()
    };
    message.authentic = resolution.security.is_secure() && (dnssec || entry.flag("AD"));
    message.rcode = if resolution.end == End::NxDomain { Rcode::NxDomain } else { Rcode::NoError };
    message.answer = sections(&resolution.answer);
    // Asked for by type, signatures are records like others; off the wire they read as loose ones.
    for set in message.answer.extract_if(.., |set| set.rtype == RecordType::RRSIG) {
        let sigs = set.rdatas.iter().map(|rdata| Rrsig::parse(rdata, set.ttl).expect("a signature"));
        message.loose_sigs.extend(sigs.map(|sig| (set.name.clone(), sig)));
    }
    message.authority = sections(&resolution.authority);
}

fn is_proof(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::NSEC | RecordType::NSEC3)
}
