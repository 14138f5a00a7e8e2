//! Everything that is cached, as rows for people, as JSON, and as a map for Postfix.

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::{DaneState, DaneVerdict, StsState};
use crate::caller::Caller;
use crate::clock::Stamp;
use crate::config::MapOptions;
use crate::names::NextHop;
use crate::policy::decision::{Decision, Outcome};
use crate::policy::mta_sts::life;
use crate::policy::{Engine, Freshness, reply};

/// One next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[serde(rename_all = "kebab-case")]
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
    protected.sort_by(|one, other| other.hits.cmp(&one.hits).then_with(|| one.domain.cmp(&other.domain)));
    let mut text = String::new();
    for row in protected {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{:<28}  {:>6}  {}", row.domain, row.hits, row.answer);
    }
    text
}

/// A table for people.
pub fn table(rows: &[Row]) -> String {
    const HEAD: [&str; 5] = ["DOMAIN", "ANSWER", "DANE", "MTA-STS", "HITS"];
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let answer = if row.answer.is_empty() { "-" } else { row.answer.as_str() };
            let branch = |branch: &Option<Branch>| branch.as_ref().map_or_else(|| "-".to_owned(), Branch::cell);
            let hits = row.hits.to_string();
            [row.domain.clone(), answer.to_owned(), branch(&row.dane), branch(&row.mta_sts), hits]
        })
        .collect();
    let head = HEAD.map(str::to_owned);
    let mut widths = [0; 5];
    for line in std::iter::once(&head).chain(&cells) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in std::iter::once(&head).chain(&cells) {
        let padded: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

impl Row {
    fn has_policy(&self) -> bool {
        !(self.answer.is_empty() || self.answer == "NOTFOUND" || self.answer.starts_with("TEMP"))
    }
}

impl Branch {
    fn cell(&self) -> String {
        let left = if self.remaining == 0 { "ended".to_owned() } else { format!("{} left", span(self.remaining)) };
        format!("{} ({} old, {left})", self.status, span(self.age))
    }
}

/// Seconds in the two largest units that are not nothing.
fn span(seconds: u64) -> String {
    let units = [(seconds / 86_400, 'd'), (seconds / 3_600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let largest = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units.iter().skip(largest).take(2).enumerate().filter(|(at, (count, _))| *at == 0 || *count > 0);
    shown.map(|(_, (count, unit))| format!("{count}{unit}")).collect()
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
    fn the_table_has_a_head_and_lined_up_columns() {
        let mut second = row("b.example", "", 12);
        second.mta_sts = None;
        let expected = "\
DOMAIN          ANSWER     DANE                           MTA-STS                       HITS
long-a.example  dane-only  none (1m1s old, 58m59s left)  enforce (1d1h old, ended)     3
b.example       -          none (1m1s old, 58m59s left)  -                             12
";
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let table = table(&[row("long-a.example", "dane-only", 3), second]);
        assert_eq!(squeeze(&table), squeeze(expected));
        let hits: Vec<_> = table.lines().map(|line| line.find("none (").or(line.find("DANE"))).collect();
        assert!(hits.iter().all(|at| *at == hits[0]), "{table}");
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

    #[test]
    fn spans_show_two_units() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_661, "1h1m"), (90_061, "1d1h"), (86_460, "1d")]
        {
            assert_eq!(span(seconds), expected);
        }
    }
}
