//! One lookup from question to validated answer: cache, then descend and check, alias by alias.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use super::check::{Checked, Signed};
use super::core::{Context, Core};
use super::delegation::Zone;
use super::iterate::Heard;
use super::iterate::classify::Meaning;
use super::resolution::{End, Part, Ready, Resolution};
use super::rrset::RrSet;
use super::rrset_cache::{Entry, Known};
use crate::clock::{Stamp, whole_seconds};
use crate::dns::{Cause, Failure, Security};
use crate::limits;

/// What was heard of a question before its lookup began.
pub(super) type Early = Option<Box<Result<Heard, Failure>>>;

/// One step of a chain.
enum Step {
    /// The end of it.
    End(End),
    /// An alias, and where it leads.
    Alias(Name),
    /// Nothing is known.
    Unknown,
}

impl Core {
    /// The cache entry that is the whole answer, if there is one. To be asked before [`Core::cached_answer`], which
    /// finds the rest.
    pub fn ready(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Ready> {
        let (end, entry) = match self.cache.get(name, rtype, now) {
            Some(entry) => (entry.end(), entry),
            // An alias goes before a denial (see `cached_step`); a DS is the parent's, whoever denies the name.
            None if rtype == RecordType::DS || self.cache.get(name, RecordType::CNAME, now).is_some() => return None,
            None => (End::NxDomain, self.cache.nxdomain(name, now)?),
        };
        Some(Ready { end, ttl: entry.remaining(now), entry })
    }

    /// The answer, if the cache holds all of it; never asks anybody.
    pub fn cached_answer(&self, name: &Name, rtype: RecordType) -> Option<Resolution> {
        let mut resolution = Resolution::new(name.clone());
        for _ in 0..=limits::ALIAS_HOPS {
            match self.cached_step(&mut resolution, rtype) {
                Step::End(end) => {
                    resolution.end = end;
                    return Some(resolution);
                }
                Step::Alias(target) => resolution.canonical = target,
                Step::Unknown => return None,
            }
        }
        None
    }

    /// Whether the cache holds at least the first step of an answer.
    pub fn knows_next_step(&self, name: &Name, rtype: RecordType) -> bool {
        !matches!(self.cached_step(&mut Resolution::new(name.clone()), rtype), Step::Unknown)
    }

    /// Answers a question, following aliases (RFC 1034 §4.3.2, RFC 6672 §3.2). `early` is what was heard of this very
    /// question already.
    pub async fn answer(
        self: &Arc<Self>,
        context: &Context,
        name: Name,
        rtype: RecordType,
        early: Early,
    ) -> Result<Resolution, Failure> {
        let mut early = early.or_else(|| self.unproven.take(&name, rtype, self.now()).map(|heard| Box::new(Ok(heard))));
        let mut resolution = Resolution::new(name.clone());
        let mut seen = vec![name];
        for _ in 0..=limits::ALIAS_HOPS {
            // Of the first name only, which another lookup may have found to be an alias meanwhile.
            let early = early.take();
            let step = match self.cached_step(&mut resolution, rtype) {
                Step::Unknown => self.fetched_step(context, &mut resolution, rtype, early).await?,
                known => known,
            };
            match step {
                Step::End(end) => {
                    resolution.end = end;
                    return Ok(resolution);
                }
                Step::Alias(target) if !seen.contains(&target) => {
                    seen.push(target.clone());
                    resolution.canonical = target;
                }
                Step::Alias(_) | Step::Unknown => break,
            }
        }
        Err(Failure::new(resolution.canonical, rtype, Cause::AliasChain))
    }

    /// The next step from the cache: the RRset, an alias, or a denial.
    fn cached_step(&self, resolution: &mut Resolution, rtype: RecordType) -> Step {
        let (name, now) = (resolution.canonical.clone(), self.now());
        if let Some(entry) = self.cache.get(&name, rtype, now) {
            resolution.push_entry(&entry, entry.remaining(now));
            return Step::End(entry.end());
        }
        // A DS is the parent's (RFC 4035 §3.1.4.1): what a child says at its apex, an alias even, is beside the point.
        if !matches!(rtype, RecordType::CNAME | RecordType::DS)
            && let Some(entry) = self.cache.get(&name, RecordType::CNAME, now)
            && let Known::Positive { set, .. } = entry.known()
            && let [target] = set.target_names().as_slice()
        {
            resolution.push_entry(&entry, entry.remaining(now));
            return Step::Alias(target.clone());
        }
        let here = if rtype == RecordType::DS { None } else { self.cache.nxdomain(&name, now) };
        match here.or_else(|| self.cache.nxdomain_above(&name, self.own_labels(&name, rtype), now)) {
            Some(entry) => {
                resolution.push_entry(&entry, entry.remaining(now));
                Step::End(End::NxDomain)
            }
            None => Step::Unknown,
        }
    }

    async fn fetched_step(
        self: &Arc<Self>,
        context: &Context,
        resolution: &mut Resolution,
        rtype: RecordType,
        early: Early,
    ) -> Result<Step, Failure> {
        let name = resolution.canonical.clone();
        if !context.checking_disabled
            && let Some(failure) = self.failures.get(&name, rtype, self.now())
        {
            return Err(failure);
        }
        match self.fetch_and_check(context, &name, rtype, early).await {
            Ok(checked) => {
                self.if_proven_today(context, || self.keep_checked(&checked, &name, rtype));
                self.failures.clear(&name, rtype);
                Ok(resolution.push_checked(checked))
            }
            Err((failure, heard)) => {
                // The failing part may be a zone's keys; to the caller it is this question that failed.
                let habits = failure.server.map(|server| self.exchanger.habits(server)).unwrap_or_default();
                let failure = Failure { name: name.clone(), rtype, habits, ..failure };
                if let Some(heard) = heard.as_ref().filter(|_| failure.is_bogus()) {
                    // The address that it came from may have been forged: found out anew, it heals at once.
                    self.zones.forget_reached(&heard.zone);
                }
                match heard {
                    Some(heard) if context.checking_disabled => Ok(resolution.push_unchecked(&heard, &name, failure)),
                    _ => {
                        self.if_proven_today(context, || self.failures.insert(failure.clone(), self.now()));
                        Err(failure)
                    }
                }
            }
        }
    }

    /// Fetches and validates; a bogus answer is asked for at other servers before it is believed to be all there
    /// is. With a failure comes what was last heard, for clients that validate themselves.
    async fn fetch_and_check(
        self: &Arc<Self>,
        context: &Context,
        name: &Name,
        rtype: RecordType,
        mut early: Early,
    ) -> Result<Checked, (Failure, Option<Heard>)> {
        let mut excluded: Vec<SocketAddr> = Vec::new();
        let mut bogus: Option<(Failure, Heard)> = None;
        let mut stepped_back = false;
        loop {
            let heard = match early.take() {
                Some(early) => *early,
                None => self.descend(context, name, rtype, &excluded).await,
            };
            let heard = match (heard, bogus.take()) {
                (Ok(heard), _) => heard,
                (Err(failure), None) => return Err((failure, None)),
                // No server is left that might do better. A lying referral may be behind it: once, ask another
                // server of the parent.
                (Err(_), Some((failure, heard))) => match heard.zone.referral.source {
                    Some(source) if !stepped_back && heard.zone.parent.is_some() => {
                        stepped_back = true;
                        self.zones.forget(&heard.zone);
                        excluded.push(source);
                        bogus = Some((failure, heard));
                        continue;
                    }
                    _ => return Err((failure, Some(heard))),
                },
            };
            match self.check(context, &heard, name, rtype).await {
                Ok(checked) => return Ok(checked.aged(whole_seconds(self.now().since(heard.at)))),
                Err(failure) => {
                    let retry = failure.is_bogus()
                        && excluded.len() < limits::BOGUS_RETRIES
                        && !context.checking_disabled
                        && !excluded.contains(&heard.server)
                        && !matches!(&failure.cause, Cause::Bogus(crate::dns::Bogus::TooMuchWork(_)));
                    if !retry {
                        return Err((failure, Some(heard)));
                    }
                    excluded.push(heard.server);
                    bogus = Some((failure, heard));
                }
            }
        }
    }

    /// Asks the servers of one zone, and only them, until an answer validates; for priming.
    pub async fn fetch_checked(
        self: &Arc<Self>,
        context: &Context,
        zone: &Arc<Zone>,
        name: &Name,
        rtype: RecordType,
    ) -> Result<Heard, Failure> {
        let mut excluded: Vec<SocketAddr> = Vec::new();
        loop {
            let heard = self.ask_zone(context, zone, name, rtype, &excluded).await?;
            match self.check(context, &heard, name, rtype).await {
                Ok(checked) => {
                    self.if_proven_today(context, || self.keep_checked(&checked, name, rtype));
                    return Ok(heard);
                }
                Err(failure) if failure.is_bogus() && excluded.len() < limits::BOGUS_RETRIES => {
                    excluded.push(heard.server);
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

impl Resolution {
    pub(super) fn push_entry(&mut self, entry: &Entry, ttl: u32) {
        self.security = self.security.and(entry.security);
        self.ttl = self.ttl.min(ttl);
        match entry.known() {
            Known::Positive { set, proof, dname } => {
                dname.into_iter().chain([set]).for_each(|set| self.push_answer(Part { set, ttl }));
                self.push_proof(&proof, ttl);
            }
            Known::Negative { proof } => self.push_proof(&proof, ttl),
        }
    }

    /// Adds to the answer, where an RRset stands once: a DNAME may be met on the way more than once.
    fn push_answer(&mut self, part: Part) {
        let is_it = |there: &Part| there.set.rtype == part.set.rtype && there.set.name == part.set.name;
        if !self.answer.iter().any(is_it) {
            self.answer.push(part);
        }
    }

    fn push_proof(&mut self, proof: &[RrSet], ttl: u32) {
        for set in proof {
            if !self.authority.iter().any(|part| part.set.name == set.name && part.set.rtype == set.rtype) {
                self.authority.push(Part { set: Arc::new(set.clone()), ttl });
            }
        }
    }

    fn push_signed(&mut self, signed: &Signed) {
        self.security = self.security.and(signed.security);
        self.ttl = self.ttl.min(signed.ttl);
        self.push_answer(Part { set: Arc::clone(&signed.set), ttl: signed.ttl });
        self.push_proof(&signed.proof, signed.ttl);
    }

    fn push_checked(&mut self, checked: Checked) -> Step {
        match checked {
            Checked::Records(signed) => {
                self.push_signed(&signed);
                Step::End(End::Records)
            }
            Checked::Alias { target, cname, dname } => {
                if let Some(dname) = dname {
                    self.push_answer(Part { set: dname, ttl: cname.ttl });
                }
                self.push_signed(&cname);
                Step::Alias(target)
            }
            Checked::TooLong(dname) => {
                self.push_signed(&dname);
                Step::End(End::TooLong)
            }
            Checked::Denial { nxdomain, proof, security, ttl } => {
                self.security = self.security.and(security);
                self.ttl = self.ttl.min(ttl);
                self.push_proof(&proof, ttl);
                Step::End(if nxdomain { End::NxDomain } else { End::NoData })
            }
        }
    }

    /// What was heard, as it is, for a client that set CD (RFC 4035 §3.2.2).
    fn push_unchecked(&mut self, heard: &Heard, name: &Name, failure: Failure) -> Step {
        self.security = Security::Insecure;
        self.ttl = 0;
        self.unchecked.get_or_insert(failure);
        let part = |set: &RrSet| Part { set: Arc::new(set.clone()), ttl: set.ttl };
        match &heard.meaning {
            Meaning::Answer(set) => {
                self.answer.push(part(set));
                Step::End(End::Records)
            }
            Meaning::Alias(alias) => {
                alias.dname.iter().chain([&alias.cname]).for_each(|set| self.push_answer(part(set)));
                Step::Alias(alias.target.clone())
            }
            Meaning::TooLong(dname) => {
                self.push_answer(part(dname));
                Step::End(End::TooLong)
            }
            Meaning::NoData | Meaning::NxDomain | Meaning::Referral(_) => {
                let within = |set: &&RrSet| {
                    heard.zone.name.zone_of(&set.name) && set.name.zone_of(name) || set.rtype != RecordType::SOA
                };
                let wanted = |set: &&RrSet| matches!(set.rtype, RecordType::SOA | RecordType::NSEC | RecordType::NSEC3);
                self.authority.extend(heard.message.authority.iter().filter(wanted).filter(within).map(part));
                Step::End(if heard.meaning == Meaning::NxDomain { End::NxDomain } else { End::NoData })
            }
        }
    }
}
