//! Drives a server with many connections from one thread, each with so many requests under way.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use super::connection::{Arrived, Connection, Server};
use super::keys::{Dice, Keys, read};
use super::process::{family, own_cpu, usage};
use super::report::{Latency, Report};

/// The longest time that is told apart, in nanoseconds.
const LONGEST: u64 = 1_000_000_000_000;
/// The longest wait for any reply: Postfix gives up after it, too.
const PATIENCE: Duration = Duration::from_secs(100);

#[derive(Args)]
pub struct Settings {
    /// Where the server listens: `127.0.0.1:8642`, or `unix:` and a path.
    #[arg(long, default_value = "127.0.0.1:8642")]
    server: Server,
    /// The map that is asked.
    #[arg(long, default_value = "QUERY")]
    map: String,
    /// Connections, all open from beginning to end.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests under way at once on each connection.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// A key to ask for; more of them with `--keys` and `--names`.
    #[arg(long)]
    key: Vec<String>,
    /// A file with a key on each line.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Keys of this form, `{}` being a number: `d{}.com`.
    #[arg(long)]
    names: Option<String>,
    /// The first number for `--names`.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// How many numbers for `--names`.
    #[arg(long, default_value_t = 1_000)]
    count: usize,
    /// A zone below which names are asked for that nobody has asked for before.
    #[arg(long)]
    fresh_below: Option<String>,
    /// Of how many requests, from 0 to 1: one less the hit ratio.
    #[arg(long, default_value_t = 0.1, requires = "fresh_below")]
    fresh_ratio: f64,
    /// What a reply begins with, one of several; else every `OK` and `NOTFOUND` is right.
    #[arg(long)]
    expect: Vec<String>,
    /// What a reply for a fresh name begins with.
    #[arg(long, default_value = "NOTFOUND ")]
    expect_fresh: String,
    /// Asks for each key once, in order, and ends: a cold pass.
    #[arg(long, conflicts_with_all = ["fresh_below", "duration", "requests"])]
    once: bool,
    /// Asks for each key once before it measures.
    #[arg(long)]
    warm_up: bool,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Ends after so many replies, where that comes first.
    #[arg(long)]
    requests: Option<u64>,
    /// A process whose CPU time and memory are measured; several are added up.
    #[arg(long)]
    pid: Vec<u32>,
    /// With all processes they have started.
    #[arg(long, requires = "pid")]
    descendants: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What is to be asked in a pass.
#[derive(Clone, Copy)]
enum Plan {
    /// Each key once, in order.
    EachOnce,
    /// Any keys until then, or until so many replies came.
    Until(Instant, u64),
}

/// What came of a pass.
struct Outcome {
    histogram: Histogram<u64>,
    wrong: u64,
    example: Option<String>,
    took: Duration,
}

pub fn run(settings: &Settings) -> ExitCode {
    let mut names = settings.key.clone();
    names.extend(settings.keys.iter().flat_map(|path| read(path)));
    if let Some(form) = &settings.names {
        names.extend((settings.from..settings.from + settings.count).map(|n| form.replace("{}", &n.to_string())));
    }
    let fresh = settings.fresh_below.clone().map(|zone| (zone, settings.fresh_ratio));
    let keys = Keys::new(&settings.map, names.iter().map(String::as_str), fresh);
    drop(names);
    if keys.len() == 0 && settings.fresh_below.is_none() {
        eprintln!("nothing to ask: give --key, --keys, --names or --fresh-below");
        return ExitCode::from(2);
    }
    match measure(settings, &keys) {
        Ok(report) => {
            if settings.json {
                println!("{}", serde_json::to_string(&report).expect("numbers and texts"));
            } else {
                print!("{report}");
            }
            ExitCode::from(u8::from(report.wrong > 0))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn measure(settings: &Settings, keys: &Keys) -> io::Result<Report> {
    let mut driver = Driver::connect(settings, keys)?;
    if settings.warm_up {
        driver.pass(Plan::EachOnce)?;
    }
    let pids = family(&settings.pid, settings.descendants);
    let (before, own_before) = (usage(&pids), own_cpu());
    let plan = if settings.once {
        Plan::EachOnce
    } else {
        let end = Instant::now() + Duration::from_secs_f64(settings.duration);
        Plan::Until(end, settings.requests.unwrap_or(u64::MAX))
    };
    let outcome = driver.pass(plan)?;
    let (after, own_after) = (usage(&pids), own_cpu());
    let replies = outcome.histogram.len();
    let seconds = outcome.took.as_secs_f64();
    let each = |seconds: f64| seconds * 1e6 / replies.max(1) as f64;
    let watched = !settings.pid.is_empty();
    Ok(Report {
        replies,
        seconds,
        per_second: replies as f64 / seconds,
        connections: settings.connections,
        pipeline: settings.pipeline,
        latency: Latency::of(&outcome.histogram),
        cpu_per_reply: watched.then(|| each(after.cpu - before.cpu)),
        cpu_seconds: watched.then_some(after.cpu - before.cpu),
        resident: watched.then_some(after.resident),
        peak: watched.then_some(after.peak),
        own_cpu_per_reply: each(own_after - own_before),
        wrong: outcome.wrong,
        wrong_example: outcome.example,
    })
}

struct Driver<'a> {
    settings: &'a Settings,
    keys: &'a Keys,
    poll: Poll,
    connections: Vec<Connection>,
    dice: Dice,
    scratch: Vec<u8>,
}

impl<'a> Driver<'a> {
    fn connect(settings: &'a Settings, keys: &'a Keys) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for index in 0..settings.connections.max(1) {
            let mut connection = Connection::open(&settings.server)?;
            poll.registry().register(connection.source(), Token(index), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(connection);
        }
        Ok(Self { settings, keys, poll, connections, dice: Dice::new(), scratch: Vec::new() })
    }

    /// Keeps every connection busy until the plan is fulfilled and every reply has come.
    fn pass(&mut self, plan: Plan) -> io::Result<Outcome> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that are in order");
        let mut outcome = Outcome { histogram, wrong: 0, example: None, took: Duration::ZERO };
        let started = Instant::now();
        let mut next = 0;
        let mut events = Events::with_capacity(1024);
        let mut ready: Vec<usize> = (0..self.connections.len()).collect();
        loop {
            for index in ready.drain(..) {
                self.receive(index, &mut outcome)?;
                self.refill(index, plan, &mut next, outcome.histogram.len())?;
            }
            if self.connections.iter().all(|connection| connection.waiting() == 0) {
                break;
            }
            self.poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no reply for 100 s"));
            }
            ready.extend(events.iter().map(|event| event.token().0));
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    fn receive(&mut self, index: usize, outcome: &mut Outcome) -> io::Result<()> {
        let settings = self.settings;
        while self.connections[index].receive(|arrived| {
            outcome.histogram.saturating_record(u64::try_from(arrived.took.as_nanos()).unwrap_or(u64::MAX));
            if !is_right(settings, &arrived) {
                outcome.wrong += 1;
                outcome.example.get_or_insert_with(|| String::from_utf8_lossy(arrived.text).into_owned());
            }
        })? {}
        Ok(())
    }

    /// Asks as much as the plan allows.
    fn refill(&mut self, index: usize, plan: Plan, next: &mut usize, replies: u64) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let now = Instant::now();
        while connection.waiting() < self.settings.pipeline.max(1) {
            let request = match plan {
                Plan::EachOnce if *next >= self.keys.len() => break,
                Plan::EachOnce => self.keys.at(*next),
                Plan::Until(end, most) if now >= end || replies >= most => break,
                Plan::Until(..) => self.keys.any(&mut self.dice, &mut self.scratch),
            };
            *next += 1;
            connection.push(request.octets, request.fresh, now);
        }
        connection.send().map(drop)
    }
}

fn is_right(settings: &Settings, arrived: &Arrived<'_>) -> bool {
    let begins = |with: &str| arrived.text.starts_with(with.as_bytes());
    match (arrived.fresh, settings.expect.as_slice()) {
        (true, _) => begins(&settings.expect_fresh),
        (false, []) => begins("OK ") || begins("NOTFOUND "),
        (false, expected) => expected.iter().any(|with| begins(with)),
    }
}
