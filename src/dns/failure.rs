//! Why a lookup gave no answer, in words an operator can act on.

use std::fmt;
use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};

use crate::clock::UnixTime;

/// A lookup that gave no answer that may be used. Callers treat it as "unknown": never as "nothing there".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name asked for.
    pub name: Name,
    /// The type asked for.
    pub rtype: RecordType,
    /// What went wrong.
    pub cause: Cause,
    /// The zone in which it went wrong, where known.
    pub zone: Option<Name>,
    /// The server that gave the last answer or silence, where there was one.
    pub server: Option<IpAddr>,
    /// What was found out of that server by then.
    pub habits: Habits,
}

/// What a server cannot stand in a query, or cannot do, as was found out by asking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Habit {
    /// It answers only without cookies (RFC 7873).
    NoCookies,
    /// It breaks on questions in mixed case (0x20).
    NoMixedCase,
    /// It answers only without EDNS (RFC 6891), and so without signatures.
    NoEdns,
    /// It answers over TCP, and to no datagram.
    TcpAlone,
}

impl Habit {
    const ALL: [Self; 4] = [Self::NoCookies, Self::NoMixedCase, Self::NoEdns, Self::TcpAlone];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What was found out of one server; small, since failures are moved about a lot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Habits(u8);

impl Habits {
    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Habit> {
        Habit::ALL.into_iter().filter(move |habit| self.0 & habit.bit() != 0)
    }
}

impl FromIterator<Habit> for Habits {
    fn from_iter<I: IntoIterator<Item = Habit>>(habits: I) -> Self {
        Self(habits.into_iter().fold(0, |bits, habit| bits | habit.bit()))
    }
}

/// `answers only without cookies`, to follow the server's address.
impl fmt::Display for Habit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCookies => "answers only without cookies",
            Self::NoMixedCase => "breaks on mixed-case questions",
            Self::NoEdns => "answers only without EDNS",
            Self::TcpAlone => "answers over TCP alone",
        })
    }
}

/// `, which answers only without EDNS and breaks on mixed-case questions`, or nothing, to follow a server's address.
pub fn which_does(habits: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let words: Vec<String> = habits.into_iter().map(|habit| habit.to_string()).collect();
    if words.is_empty() { String::new() } else { format!(", which {}", words.join(" and ")) }
}

/// What went wrong. Retrying soon can help unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Validation failed; every server of the zone that could be asked gave the same.
    Bogus(Bogus),
    /// No server of the zone answered in time.
    Timeout,
    /// Every server answered with an error of its own, the last one with SERVFAIL.
    ServFail,
    /// The same with this other code: REFUSED, NOTIMP or FORMERR.
    ErrorCode(&'static str),
    /// Servers answered, but none is authoritative for the zone (lame delegation).
    Lame,
    /// The zone's name servers have no address that can be reached.
    NoServers,
    /// Answers that make no sense: malformed, or not to the question.
    Malformed,
    /// A chain of aliases that loops or exceeds the limit.
    AliasChain,
    /// A limit on work was reached (which one).
    Budget(&'static str),
    /// Too many lookups under way here.
    Overloaded,
    /// The socket or the network of this host failed.
    Network,
}

/// Why validation failed (RFC 4035 §4.3, §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bogus {
    /// Every signature that could count has expired; the latest at this time.
    Expired {
        /// End of validity.
        at: UnixTime,
        /// Key tag of that signature.
        tag: u16,
    },
    /// Every signature that could count begins in the future; the earliest at this time.
    NotYetValid {
        /// Begin of validity.
        from: UnixTime,
        /// Key tag of that signature.
        tag: u16,
    },
    /// The zone is signed, this RRset is not.
    MissingSignature {
        /// Owner of the RRset.
        name: Name,
        /// Type of the RRset.
        rtype: RecordType,
    },
    /// A signature is there and does not verify.
    BadSignature {
        /// Owner of the RRset.
        name: Name,
        /// Type of the RRset.
        rtype: RecordType,
        /// Key tag in the signature.
        tag: u16,
    },
    /// The zone's DNSKEY RRset cannot be had.
    NoDnskey,
    /// No DNSKEY matches a DS (or trust anchor) and signs the key set.
    NoMatchingKey {
        /// Key tags of the DS records (or anchors).
        tags: Vec<u16>,
        /// Trust anchors were to be matched, and not the parent's DS records.
        anchored: bool,
    },
    /// Every trust anchor of the zone was revoked by its owner, and no zone above has one (RFC 5011 §5).
    AnchorsRevoked,
    /// No key of the zone matches the signature over this RRset.
    UnknownKey {
        /// Key tag in the signature.
        tag: u16,
    },
    /// A denial (NXDOMAIN, NODATA, wildcard, no DS) without the NSEC or NSEC3 records that prove it.
    DenialNotProven,
    /// A signature by a name that is not the zone's.
    WrongSigner {
        /// The signer's name.
        signer: Name,
    },
    /// A limit on signature checks or hashes was reached (which one); no answer is better than a guess.
    TooMuchWork(&'static str),
}

impl Failure {
    /// A failure without zone or server.
    pub fn new(name: Name, rtype: RecordType, cause: Cause) -> Self {
        Self { name, rtype, cause, zone: None, server: None, habits: Habits::default() }
    }

    /// Names the zone in which it went wrong, unless one is named already.
    pub fn in_zone(mut self, zone: &Name) -> Self {
        self.zone.get_or_insert_with(|| zone.clone());
        self
    }

    /// Where it went wrong: the zone, or the name where no zone is known.
    pub fn place(&self) -> String {
        text(self.zone.as_ref().unwrap_or(&self.name))
    }

    /// What went wrong in a few words, without names: one of a closed set.
    pub fn kind(&self) -> &'static str {
        match &self.cause {
            Cause::Bogus(bogus) => bogus.kind(),
            Cause::Timeout => "no answer in time",
            Cause::ServFail | Cause::ErrorCode(_) => "servers answer with errors",
            Cause::Lame => "servers are not authoritative",
            Cause::NoServers => "no name server can be reached",
            Cause::Malformed => "malformed answers",
            Cause::AliasChain => "alias chain loops or is too long",
            Cause::Budget(_) => "too much work",
            Cause::Overloaded => "too many lookups under way",
            Cause::Network => "network error on this host",
        }
    }

    /// True where validation failed.
    pub fn is_bogus(&self) -> bool {
        matches!(self.cause, Cause::Bogus(_))
    }
}

impl Bogus {
    fn kind(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "signature expired",
            Self::NotYetValid { .. } => "signature not valid yet",
            Self::MissingSignature { .. } => "signature missing",
            Self::BadSignature { .. } => "signature wrong",
            Self::NoDnskey => "DNSKEY missing",
            Self::NoMatchingKey { anchored: true, .. } => "no DNSKEY matches trust anchor",
            Self::NoMatchingKey { anchored: false, .. } => "no DNSKEY matches DS",
            Self::AnchorsRevoked => "trust anchors revoked",
            Self::UnknownKey { .. } => "signature by unknown key",
            Self::DenialNotProven => "denial not proven",
            Self::WrongSigner { .. } => "signed by another zone",
            Self::TooMuchWork(_) => "validation needs too much work",
        }
    }
}

/// `MX lookup: signature expired 2026-10-01 (zone example.com)`
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lookup: {}", self.rtype, self.cause)?;
        let which = which_does(self.habits.iter());
        match (&self.zone, self.server) {
            (Some(zone), Some(server)) => write!(f, " (zone {}, server {server}{which})", text(zone)),
            (Some(zone), None) => write!(f, " (zone {})", text(zone)),
            (None, Some(server)) => write!(f, " (server {server}{which})"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bogus(bogus) => bogus.fmt(f),
            Self::Timeout => f.write_str("no answer in time"),
            Self::ServFail => f.write_str("servers answer with an error, SERVFAIL"),
            Self::ErrorCode(code) => write!(f, "servers answer with an error, {code}"),
            Self::Lame => f.write_str("servers are not authoritative"),
            Self::NoServers => f.write_str("no name server can be reached"),
            Self::Malformed => f.write_str("malformed answers"),
            Self::AliasChain => f.write_str("alias chain loops or is too long"),
            Self::Budget(what) => write!(f, "too much work: {what}"),
            Self::Overloaded => f.write_str("too many lookups under way"),
            Self::Network => f.write_str("network error on this host"),
        }
    }
}

impl fmt::Display for Bogus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { at, tag } => write!(f, "signature expired {} (key tag {tag})", Date(*at)),
            Self::NotYetValid { from, tag } => write!(f, "signature not valid before {} (key tag {tag})", Date(*from)),
            Self::MissingSignature { name, rtype } => write!(f, "signature missing over {} {rtype}", text(name)),
            Self::BadSignature { name, rtype, tag } => {
                write!(f, "signature wrong over {} {rtype} (key tag {tag})", text(name))
            }
            Self::NoDnskey => f.write_str("DNSKEY missing"),
            Self::NoMatchingKey { tags, anchored } => {
                let what = if *anchored { "the trust anchor" } else { "DS" };
                write!(f, "no DNSKEY matches {what} (key tags {tags:?})")
            }
            Self::AnchorsRevoked => f.write_str("all trust anchors of the zone are revoked"),
            Self::UnknownKey { tag } => write!(f, "signature by unknown key (key tag {tag})"),
            Self::DenialNotProven => f.write_str("denial not proven"),
            Self::WrongSigner { signer } => write!(f, "signed by {}, which is not the zone", text(signer)),
            Self::TooMuchWork(what) => write!(f, "validation needs too much work: {what}"),
        }
    }
}

/// A name as people write it: no trailing dot, except for the root.
pub fn text(name: &Name) -> String {
    let text = name.to_ascii();
    match text.strip_suffix('.') {
        Some("") | None => text,
        Some(short) => short.to_owned(),
    }
}

/// A calendar day in UTC, `2026-10-01`.
pub struct Date(pub UnixTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days since 0000-03-01, in eras of 400 years: the proleptic Gregorian calendar without tables.
        let days = self.0.div_euclid(86_400) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    #[test]
    fn a_failure_reads_as_a_sentence_an_operator_can_act_on() {
        let name = Name::from_str("example.com.").expect("a name");
        let expired = Bogus::Expired { at: 1_790_812_800, tag: 7 };
        let failure = Failure::new(name.clone(), RecordType::MX, Cause::Bogus(expired)).in_zone(&name);
        assert_eq!(failure.to_string(), "MX lookup: signature expired 2026-10-01 (key tag 7) (zone example.com)");
        let name_server = Failure {
            server: Some(IpAddr::from([192, 0, 2, 1])),
            habits: [Habit::NoEdns, Habit::TcpAlone].into_iter().collect(),
            ..Failure::new(name.clone(), RecordType::MX, Cause::ServFail).in_zone(&name)
        };
        let server = "server 192.0.2.1, which answers only without EDNS and answers over TCP alone";
        let expected = format!("MX lookup: servers answer with an error, SERVFAIL (zone example.com, {server})");
        assert_eq!(name_server.to_string(), expected);
        let tags = vec![7];
        for (anchored, what) in [(true, "the trust anchor"), (false, "DS")] {
            let text = Bogus::NoMatchingKey { tags: tags.clone(), anchored }.to_string();
            assert_eq!(text, format!("no DNSKEY matches {what} (key tags [7])"));
        }
        for (time, day) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (4_102_444_799, "2099-12-31")] {
            assert_eq!(Date(time).to_string(), day);
        }
    }
}
