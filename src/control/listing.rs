//! Everything that is cached, as rows for people, as JSON, and as a map for Postfix.

use std::cmp::Ordering;
use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::{DaneState, DaneVerdict, StsState};
use crate::caller::Caller;
use crate::clock::{Stamp, span};
use crate::config::MapOptions;
use crate::names::NextHop;
use crate::policy::decision::{Decision, Outcome};
use crate::policy::mta_sts::life;
use crate::policy::{Engine, Freshness, reply};

/// One next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Row {
    /// The next hop, normalised.
    pub domain: String,
    /// What Postfix would get from memory, without status word: `dane-only`, `secure …`, `NOTFOUND`, `TEMP …`;
    /// empty where it would have to be looked up first.
    pub answer: String,
    /// Queries answered since the start.
    pub hits: u64,
    /// The DANE branch, where there is one.
    pub dane: Option<Branch>,
    /// The MTA-STS branch, where there is one.
    pub mta_sts: Option<Branch>,
}

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Branch {
    /// How it stands: `dane-only`, `none`, `enforce`, `absent` …
    pub status: String,
    /// Seconds since it was learnt.
    pub age: u64,
    /// Seconds for which it holds; 0 where it has ended. For a held policy that is what is left of `max_age`.
    pub remaining: u64,
}

/// Says in the log who was told everything that is cached: which domains mail goes to is nobody else's business.
pub fn told_everything(form: &str, caller: Caller) {
    tracing::info!(form, uid = caller.uid, pid = caller.pid, "everything that is cached told to {caller}");
}

/// Every cached next hop, by name.
pub fn rows(engine: &Engine, map: &MapOptions, now: Stamp) -> Vec<Row> {
    let mut rows: Vec<Row> = engine
        .cache()
        .rows()
        .into_iter()
        .map(|(hop, known)| {
            let decision = engine.standing(&hop, &known, map, Freshness::WithinTtl, now);
            Row {
                answer: decision.map(|decision| answer(&decision, &hop, map)).unwrap_or_default(),
                domain: hop.to_string(),
                hits: known.usage.hits.into(),
                dane: known.dane.as_ref().map(|state| dane_branch(state, now)),
                mta_sts: known.sts.as_ref().map(|state| sts_branch(state, now)),
            }
        })
        .collect();
    rows.sort_by(|one, other| one.domain.cmp(&other.domain));
    rows
}

/// Everything that has a policy, as a Postfix `texthash` map (texthash_table(5)): what was last known, so that
/// it can stand in while nothing can be looked up.
pub fn export(engine: &Engine, map: &MapOptions, now: Stamp) -> String {
    let plain = MapOptions { tlsrpt: false, report_level: None, ..*map };
    let mut lines: Vec<String> = engine
        .cache()
        .rows()
        .into_iter()
        .filter_map(|(hop, known)| {
            let decision = engine.standing(&hop, &known, &plain, Freshness::LastKnown, now)?;
            let policy = policy(&decision, &hop, &plain)?;
            Some(format!("{:<28} {policy}\n", hop.to_string()))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// The rows that have a policy, most used first, in the columns of postfix-tlspol's `DUMP`.
pub fn lines(rows: &[Row]) -> String {
    let mut protected: Vec<&Row> = rows.iter().filter(|row| row.has_policy()).collect();
    protected.sort_by(|one, other| by_use(one, other));
    let mut text = String::new();
    for row in protected {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{:<28}  {:>6}  {}", row.domain, row.hits, row.answer);
    }
    text
}

/// Which rows are wanted; without any of these, all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those for which Postfix keeps mail queued.
    pub held: bool,
    /// Those that have a policy.
    pub policy: bool,
}

/// The rows that are wanted, most used first.
pub fn wanted(rows: Vec<Row>, filter: Filter) -> Vec<Row> {
    let is_wanted =
        |row: &Row| filter == Filter::default() || filter.held && row.is_held() || filter.policy && row.has_policy();
    let mut rows: Vec<Row> = rows.into_iter().filter(is_wanted).collect();
    rows.sort_by(by_use);
    rows
}

/// The order of what is shown: most used first, then by name.
fn by_use(one: &Row, other: &Row) -> Ordering {
    other.hits.cmp(&one.hits).then_with(|| one.domain.cmp(&other.domain))
}

/// A table for people, with a line of totals. `width`: columns of the terminal; answers are cut so that lines fit, and
/// not below [`LEAST_ANSWER`].
pub fn table(rows: &[Row], width: Option<usize>) -> String {
    const HEAD: [&str; 5] = ["HITS", "DOMAIN", "DANE", "MTA-STS", "ANSWER"];
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let answer = if row.answer.is_empty() { "-" } else { row.answer.as_str() };
            let branch = |branch: &Option<Branch>| branch.as_ref().map_or_else(|| "-".to_owned(), Branch::cell);
            [row.hits.to_string(), row.domain.clone(), branch(&row.dane), branch(&row.mta_sts), answer.to_owned()]
        })
        .collect();
    let head = HEAD.map(str::to_owned);
    let mut widths = [0; 4];
    for line in std::iter::once(&head).chain(&cells) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let before: usize = widths.iter().map(|width| width + 2).sum();
    let room = width.map(|width| width.saturating_sub(before).max(LEAST_ANSWER));
    let mut text = String::new();
    for [hits, domain, dane, sts, answer] in std::iter::once(&head).chain(&cells) {
        let [w0, w1, w2, w3] = widths;
        let answer = cut(answer, room);
        let line = format!("{hits:>w0$}  {domain:<w1$}  {dane:<w2$}  {sts:<w3$}  {answer}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let held = rows.iter().filter(|row| row.is_held()).count();
    let policies = rows.iter().filter(|row| row.has_policy()).count();
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{} domains: {policies} with a policy, {held} held", rows.len());
    text
}

/// Characters of an answer that are shown at least, however narrow the terminal is.
const LEAST_ANSWER: usize = 24;

/// The first characters of a text, with a mark where there are more.
fn cut(text: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if text.chars().count() > room => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
        Some(_) | None => text.to_owned(),
    }
}

impl Row {
    fn has_policy(&self) -> bool {
        !(self.answer.is_empty() || self.answer == "NOTFOUND" || self.is_held())
    }

    fn is_held(&self) -> bool {
        self.answer.starts_with("TEMP")
    }
}

impl Branch {
    fn cell(&self) -> String {
        let left = if self.remaining == 0 { "ended".to_owned() } else { format!("{} left", span(self.remaining)) };
        format!("{} ({} old, {left})", self.status, span(self.age))
    }
}

fn answer(decision: &Decision, hop: &NextHop, map: &MapOptions) -> String {
    let reply = reply::render(decision, hop, map).to_string();
    reply.strip_prefix("OK ").unwrap_or(&reply).trim_end().to_owned()
}

/// The policy alone, where there is one.
fn policy(decision: &Decision, hop: &NextHop, map: &MapOptions) -> Option<String> {
    match &decision.outcome {
        Outcome::Override(_) | Outcome::DaneOnly | Outcome::Dane | Outcome::Secure(_) | Outcome::SecureHosts(..) => {
            let reply = reply::render(decision, hop, map).to_string();
            reply.strip_prefix("OK ").map(str::to_owned)
        }
        Outcome::ReportTesting(..)
        | Outcome::ReportFailure(..)
        | Outcome::NotFound
        | Outcome::Fallback(..)
        | Outcome::Temporary(_) => None,
    }
}

fn dane_branch(state: &DaneState, now: Stamp) -> Branch {
    let status = match state.entry.verdict {
        DaneVerdict::DaneOnly => "dane-only",
        DaneVerdict::Dane => "dane",
        DaneVerdict::DaneWeak => "weak",
        DaneVerdict::Partial => "partial",
        DaneVerdict::None => "none",
        DaneVerdict::Temporary => "temporary",
    };
    Branch { status: status.to_owned(), age: state.age(now).as_secs(), remaining: whole(state.left(now)) }
}

fn sts_branch(state: &StsState, now: Stamp) -> Branch {
    let status = life::view(state, now).status().to_owned();
    match (state.policy(now), state.policy_age(now)) {
        (Some((_, left)), Some(age)) => Branch { status, age: age.as_secs(), remaining: whole(Some(left)) },
        _ => Branch { status, age: state.record_age(now).as_secs(), remaining: whole(state.record_left(now)) },
    }
}

fn whole(left: Option<Duration>) -> u64 {
    left.map_or(0, |left| left.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(domain: &str, answer: &str, hits: u64) -> Row {
        let branch = |status: &str, age, remaining| Some(Branch { status: status.to_owned(), age, remaining });
        let (dane, mta_sts) = (branch("none", 61, 3_539), branch("enforce", 90_000, 0));
        Row { domain: domain.to_owned(), answer: answer.to_owned(), hits, dane, mta_sts }
    }

    #[test]
    fn the_table_has_a_head_lined_up_columns_and_totals() {
        let mut second = row("b.example", "", 12);
        second.mta_sts = None;
        let expected = "\
HITS  DOMAIN          DANE                                MTA-STS                          ANSWER
   3  long-a.example  none (1 min 1 s old, 58 min 59 s left)  enforce (1 d 1 h old, ended)  dane-only
  12  b.example       none (1 min 1 s old, 58 min 59 s left)  -                             -
2 domains: 1 with a policy, 0 held
";
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let table = table(&[row("long-a.example", "dane-only", 3), second], None);
        assert_eq!(squeeze(&table), squeeze(expected));
        let columns: Vec<_> = table.lines().filter_map(|line| line.find("none (").or(line.find("DANE"))).collect();
        assert!(columns.len() == 3 && columns.iter().all(|at| *at == columns[0]), "{table}");
    }

    #[test]
    fn lines_fit_the_terminal_however_long_a_policy_is() {
        let long = format!("secure match={} servername=hostname", "mx.example.com:".repeat(3_000));
        let rows = [row("a.example", &long, 1), row("b.example", "TEMP b.example: no", 2)];
        for width in [120, 160, 200] {
            let table = table(&rows, Some(width));
            assert!(table.lines().all(|line| line.chars().count() <= width), "{width}: {table}");
            assert!(table.contains('…') && table.contains("TEMP b.example"), "{table}");
        }
        assert!(table(&rows, Some(10)).contains(&long[..LEAST_ANSWER - 1]), "something is shown");
        assert!(table(&rows, None).contains(&long), "all of it where there is no terminal");
    }

    #[test]
    fn rows_are_filtered_and_the_most_used_come_first() {
        let rows = || {
            vec![
                row("a.example", "dane", 1),
                row("b.example", "NOTFOUND", 9),
                row("c.example", "secure match=x", 20),
                row("d.example", "TEMP d.example: no", 2),
                row("e.example", "", 2),
            ]
        };
        let names = |held, policy| {
            let rows = wanted(rows(), Filter { held, policy });
            rows.iter().map(|row| row.domain[..1].to_owned()).collect::<String>()
        };
        assert_eq!(names(false, false), "cbdea");
        assert_eq!(names(true, false), "d");
        assert_eq!(names(false, true), "ca");
        assert_eq!(names(true, true), "cda");
    }

    #[test]
    fn lines_are_the_policies_most_used_first() {
        let rows =
            [row("a.example", "dane", 1), row("b.example", "NOTFOUND", 9), row("c.example", "secure match=x", 20)];
        let expected = "c.example                         20  secure match=x\n\
                        a.example                          1  dane\n";
        assert_eq!(lines(&rows), expected);
        assert_eq!(lines(&[row("t.example", "TEMP t.example: no", 1), row("e.example", "", 1)]), "");
    }
}
