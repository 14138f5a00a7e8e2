//! What an explanation says, made to be written as JSON and read back by the command line.

use serde::{Deserialize, Serialize};

use crate::cache::entry::{FetchFailureKind, StsMode};
use crate::policy::dane::{HostAddresses, HostStatus};

/// Why a next hop has the policy that it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Explanation {
    /// Version of the program that looked.
    pub version: String,
    /// The next hop, normalised; the key as given where it is none.
    pub next_hop: String,
    /// The map whose options count.
    pub map: String,
    /// What was made of the name that was given, where that is not plain: other case, U-labels, a mail address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The answer in one word.
    pub verdict: Verdict,
    /// What connecting to the MX hosts came to, where that was asked for (`--check-mx`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckSection>,
    /// What Postfix is told when it asks now.
    pub answer: Answer,
    /// What was concluded from the fresh look; absent where the operator decides, or there is nothing to look at.
    pub fresh: Option<Answer>,
    /// Options of the map, and switches, that change what counts.
    pub options: Vec<String>,
    /// The MX lookup; absent for hosts in brackets.
    pub mx: Option<MxSection>,
    /// Each MX host that was looked at, best preference first.
    pub hosts: Vec<HostSection>,
    /// Zones on the way from the root to all names that were looked at, outer ones first.
    pub chain: Vec<ZoneSection>,
    /// MTA-STS; absent for next hops that have none.
    pub mta_sts: Option<StsSection>,
    /// What the policy cache holds.
    pub cached: CacheSection,
    /// What is wrong, who has to fix it, and how.
    pub advice: Vec<Advice>,
    /// Seconds that the look took.
    pub took: f64,
}

/// The answer in one word; the exit code of `postseal explain` follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Mail goes to authenticated hosts alone: DANE or MTA-STS, or the operator says so.
    Protected,
    /// Some MX hosts are authenticated by DANE, and at another one mail goes to whoever answers.
    PartlyProtected,
    /// There is a policy, but nobody is authenticated by it.
    Weak,
    /// No policy: Postfix's own default applies.
    NoPolicy,
    /// The domain says that it takes no mail (RFC 7505).
    NullMx,
    /// The domain does not exist.
    NoSuchDomain,
    /// The key names no mail domain and no host.
    NotAMailDomain,
    /// Postfix keeps the mail queued until something can be found out.
    Held,
    /// Every MX host failed the check: Postfix keeps the mail queued.
    Undeliverable,
}

/// What connecting to the MX hosts came to; hosts that Postfix never delivers to do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct CheckSection {
    /// Hosts that were connected to.
    pub hosts: usize,
    /// Those that would get mail at one of their addresses at least.
    pub passed: usize,
    /// Those that answered, and would not get mail.
    pub failed: usize,
    /// Those to which no connection came about.
    pub unreachable: usize,
}

impl CheckSection {
    /// Whether no host would get mail, as far as one could be asked.
    pub fn is_hopeless(&self) -> bool {
        self.passed == 0 && self.failed > 0
    }

    /// Whether no connection came about at all: outbound connections to that port seem to be blocked here.
    pub fn is_blocked(&self) -> bool {
        self.unreachable == self.hosts
    }
}

/// An answer to Postfix, and the rule it follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Answer {
    /// The reply, status word first.
    pub reply: String,
    /// Where it comes from.
    pub source: Source,
    /// Seconds until something of it is looked at again; absent where that never happens.
    pub ttl: Option<u32>,
    /// The row of the combination table that decided.
    pub rule: String,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The operator's `policy.overrides`.
    Override,
    /// The policy cache: nothing has to be looked up.
    Cache,
    /// A lookup, which Postfix would wait for.
    Lookup,
    /// The key alone: it names no mail domain or host.
    Key,
}

/// One DNS question and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Looked {
    /// The name asked for.
    pub name: String,
    /// The type asked for.
    #[serde(rename = "type")]
    pub rtype: String,
    /// What came.
    pub outcome: LookedOutcome,
    /// Where aliases lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical: Option<String>,
    /// The records, in presentation form, as many as are shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
    /// Seconds for which it may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// Why nothing came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureSection>,
}

/// What a DNS question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookedOutcome {
    /// Records, validated.
    Secure,
    /// Records, from an unsigned zone.
    Insecure,
    /// Proven not to be there.
    SecurelyAbsent,
    /// Said not to be there, by an unsigned zone.
    Absent,
    /// Validation failed.
    Bogus,
    /// No usable answer.
    Failed,
}

/// A lookup that failed: which link, where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct FailureSection {
    /// What went wrong.
    pub cause: String,
    /// The RRset at which it went wrong: name and type.
    pub rrset: String,
    /// The zone in which it went wrong.
    pub zone: Option<String>,
    /// The server that gave the last answer, or silence.
    pub server: Option<String>,
    /// What that server cannot stand in a query, or cannot do, in words.
    #[serde(default)]
    pub habits: Vec<String>,
}

/// The MX lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct MxSection {
    /// The lookup.
    pub lookup: Looked,
    /// What it means for mail, where that is not a list of hosts.
    pub note: Option<String>,
    /// Hosts beyond those that are looked at.
    pub left_out: usize,
}

/// One MX host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct HostSection {
    /// Its name, as MX has it.
    pub host: String,
    /// Its preference.
    pub preference: u16,
    /// What DANE makes of it.
    pub status: HostStatus,
    /// What its addresses were.
    pub addresses: HostAddresses,
    /// The DNS questions about it.
    pub lookups: Vec<Looked>,
    /// The TLSA base domain, where there are TLSA records (RFC 7672 §2.2.2).
    pub base: Option<String>,
    /// Its TLSA records.
    pub tlsa: Vec<TlsaSection>,
    /// Why it is not known what it has.
    pub failure: Option<FailureSection>,
    /// What Postfix does with it.
    pub delivery: Delivery,
    /// What it showed at each of its addresses, where it was looked at (`--check-mx`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<LiveCheck>,
}

/// A look at one address of an MX host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct LiveCheck {
    /// Address and port.
    pub address: String,
    /// Whether a connection came about.
    pub reached: bool,
    /// Whether mail would be delivered there, as far as TLS is concerned.
    pub passed: bool,
    /// Why, or why not.
    pub text: String,
    /// TLS version and cipher suite, where TLS came about.
    pub tls: Option<String>,
    /// What the TLSA records would have to say for the certificate that was shown, where none of them fits: one line for
    /// each usage, selector and matching type that is published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presented: Vec<String>,
}

/// A TLSA record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct TlsaSection {
    /// Certificate usage.
    pub usage: u8,
    /// Selector.
    pub selector: u8,
    /// Matching type.
    pub matching_type: u8,
    /// Certificate association data, hexadecimal.
    pub data: String,
    /// Why Postfix cannot use it; absent where it can.
    pub unusable: Option<String>,
}

/// What Postfix does at one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Delivery {
    /// In one word.
    pub kind: DeliveryKind,
    /// In a sentence.
    pub text: String,
}

/// See [`Delivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryKind {
    /// Only over TLS to an authenticated server.
    Authenticated,
    /// Only over TLS, to whoever answers.
    Encrypted,
    /// Over TLS where it is offered: in the clear is possible.
    ClearPossible,
    /// Not now.
    Deferred,
    /// Never.
    NotUsed,
}

/// One zone of a chain of trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ZoneSection {
    /// Its apex; `.` for the root.
    pub zone: String,
    /// What it comes to.
    pub state: ZoneState,
    /// The same in words: why insecure, or what is broken.
    pub text: String,
    /// Whether the DS records below are a trust anchor's.
    pub anchored: bool,
    /// DS records.
    pub ds: Vec<DsSection>,
    /// Keys.
    pub keys: Vec<KeySection>,
    /// When the last signature over the keys ends, a day in UTC.
    pub signed_until: Option<String>,
    /// Addresses of its servers.
    pub servers: Vec<String>,
    /// What these servers cannot stand in a query, or cannot do: address and words.
    #[serde(default)]
    pub habits: Vec<String>,
}

/// What a zone comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneState {
    /// Validated.
    Secure,
    /// Not signed, or not checkable.
    Insecure,
    /// The chain breaks here.
    Broken,
}

/// A DS record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct DsSection {
    /// Key tag.
    pub tag: u16,
    /// Algorithm, by number.
    pub algorithm: u8,
    /// Digest type, by number.
    pub digest_type: u8,
    /// Whether it can be checked here.
    pub supported: bool,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct KeySection {
    /// Key tag.
    pub tag: u16,
    /// Algorithm, by number.
    pub algorithm: u8,
    /// Secure Entry Point: a key-signing key.
    pub sep: bool,
    /// Revoked (RFC 5011).
    pub revoked: bool,
    /// Whether a DS record or an anchor names it.
    pub named: bool,
}

/// MTA-STS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct StsSection {
    /// The TXT lookup.
    pub lookup: Option<Looked>,
    /// The `id` of the record.
    pub id: Option<String>,
    /// Why there is no `id`.
    pub no_record: Option<String>,
    /// What fetching the policy came to just now; absent where none is announced.
    pub fetch: Option<FetchSection>,
    /// The policy that counts now, if any.
    pub policy: Option<PolicySection>,
    /// What that comes to: `enforce`, `testing`, `none`, `absent`, `unavailable`.
    pub status: String,
}

/// A fetch of a policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct FetchSection {
    /// Where from.
    pub url: String,
    /// What went wrong; absent where a policy came.
    pub problem: Option<String>,
    /// Of what kind that is.
    pub kind: Option<FetchFailureKind>,
    /// The policy that came.
    pub policy: Option<PolicySection>,
}

/// An MTA-STS policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct PolicySection {
    /// The `id` it was fetched under.
    pub id: String,
    /// Its mode.
    pub mode: StsMode,
    /// Its MX patterns.
    pub mx: Vec<String>,
    /// Its `max_age` in seconds.
    pub max_age: u32,
    /// Seconds since it was fetched.
    pub age: u32,
    /// Seconds for which it stays valid, whatever happens.
    pub valid_for: u32,
}

/// What the policy cache holds of the next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct CacheSection {
    /// The DANE branch.
    pub dane: Option<CachedDane>,
    /// The MTA-STS branch.
    pub mta_sts: Option<CachedSts>,
}

/// A cached DANE branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct CachedDane {
    /// The verdict.
    pub verdict: crate::cache::DaneVerdict,
    /// Why.
    pub reason: String,
    /// Seconds since it was learnt.
    pub age: u32,
    /// Seconds for which it still holds; 0 where it has run out.
    pub ttl: u32,
}

/// A cached MTA-STS branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct CachedSts {
    /// What the record said.
    pub record: String,
    /// Seconds since it was asked for.
    pub record_age: u32,
    /// Seconds until it is asked for again; 0 where that is due.
    pub record_ttl: u32,
    /// The policy that is held.
    pub policy: Option<PolicySection>,
    /// The last fetch, where it failed.
    pub failure: Option<CachedFailure>,
}

/// A failed fetch that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct CachedFailure {
    /// Why.
    pub reason: String,
    /// Of what kind.
    pub kind: FetchFailureKind,
    /// Failures in a row.
    pub count: u32,
    /// Seconds until it is tried again; 0 where that is due.
    pub retry_in: u32,
}

/// Something that is wrong, or could be better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Advice {
    /// Who has to fix it.
    pub whose: String,
    /// What is wrong.
    pub problem: String,
    /// How to fix it.
    pub remedy: String,
}
