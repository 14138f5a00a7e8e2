//! What an answer holds beyond the name asked: the next steps of its alias chain, where they are the zone's own.
//!
//! In: an answer whose alias is checked. Kept: the steps that the zone's keys verify, and nothing else of it. Never asks
//! anybody: a target that may be somebody else's is left for a question of its own.

use hickory_proto::rr::{Name, RecordType};

use super::core::{Context, Core};
use super::iterate::Heard;
use super::iterate::classify::find;
use super::resolution::End;
use super::rrset::RrSet;
use super::rrset_cache::Known;
use super::validate::{KeySet, verify};
use crate::dns::Security;
use crate::limits;

impl Core {
    /// Keeps the next steps of a chain that the answer holds, from the first `target` on, as long as they are the
    /// zone's own and its keys verify them: those need no further question. Nothing else in the answer is kept.
    pub fn keep_chain(
        &self,
        context: &Context,
        heard: &Heard,
        zone: &Name,
        keys: &KeySet,
        target: &Name,
        (asked, rtype): (&Name, RecordType),
    ) {
        let mut target = target.clone();
        for _ in 0..limits::ALIAS_HOPS {
            let answer = &heard.message.answer;
            let step = find(answer, &target, rtype).or_else(|| find(answer, &target, RecordType::CNAME));
            // No name has an alias and a delegation (RFC 1034 §3.6.2). Anything else may be what a parent holds of a child.
            let is_alias = |set: &RrSet| set.rtype == RecordType::CNAME;
            let is_own = |set: &&RrSet| self.is_own_name(zone, &target, asked, is_alias(set));
            let Some(set) = step.filter(is_own) else { return };
            match verify(set, keys, self.clock.wall(), &context.budget) {
                // A wildcard expansion wants its proof: that is for the question about the name itself.
                Ok(verified) if verified.wildcard.is_none() => {
                    self.keep(context, set, &[], Security::Secure, verified.ttl)
                }
                Ok(_) | Err(_) => return,
            }
            match set.target_names().as_slice() {
                [next] if set.rtype == RecordType::CNAME && rtype != RecordType::CNAME => target = next.clone(),
                _ => return,
            }
        }
    }

    /// Whether `name` is the zone's own, as far as is known without asking: not at or below one of its cuts, a forward
    /// zone or an anchor, and no name on the way, itself included, that could be a cut which was not met yet. Those on the
    /// way to `asked` are none: the zone has just answered for them. What is not known is asked for: then the zone's servers
    /// have to refer.
    fn is_own_name(&self, zone: &Name, name: &Name, asked: &Name, is_alias: bool) -> bool {
        let now = self.now();
        let is_whole = zone.zone_of(name)
            && self.zones.deepest(name, false, now).name.zone_of(zone)
            && self.anchor_below(zone, name, RecordType::A).is_none()
            && self.exception(name, RecordType::A).is_none();
        let labels = name.iter().count();
        let is_cut = |at: &Name| {
            self.known_trust(at).is_some()
                || self.cache.get(at, RecordType::DS, now).is_some_and(|ds| ds.end() == End::Records)
        };
        // What was answered of it before, when it was asked for by itself.
        let has_answered =
            |at: &Name, rtype: RecordType| match self.cache.get(at, rtype, now).map(|entry| entry.known()) {
                Some(Known::Positive { set, .. }) => set.sigs.iter().any(|sig| sig.signer == *zone),
                Some(Known::Negative { .. }) | None => false,
            };
        let is_cut_free = |at: &Name| {
            at.zone_of(asked)
                || self.zones.is_proven_cut_free(at, now)
                || has_answered(at, RecordType::A)
                || has_answered(at, RecordType::AAAA)
        };
        let is_not_cut = |at: &Name| is_alias && at == name || is_cut_free(at);
        is_whole
            && (zone.iter().count() + 1..=labels).all(|count| {
                let at = name.trim_to(count);
                !is_cut(&at) && is_not_cut(&at)
            })
    }
}
