//! What an answer holds beyond the name asked: the next steps of its alias chain, where they are the zone's own.
//!
//! In: an answer whose alias is checked. Kept: the steps that the zone's keys verify, and nothing else of it. Never asks
//! anybody: a target that may be somebody else's is left for a question of its own.

use hickory_proto::rr::{Name, RecordType};

use super::core::{Context, Core};
use super::iterate::Heard;
use super::iterate::classify::find;
use super::resolution::End;
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
            let Some(set) = step.filter(|_| self.is_own_name(zone, &target, asked)) else { return };
            match verify(set, keys, self.clock.wall(), &context.budget) {
                // A wildcard expansion wants its proof: that is for the question about the name itself.
                Ok(verified) if verified.wildcard.is_none() => self.keep(set, &[], Security::Secure, verified.ttl),
                Ok(_) | Err(_) => return,
            }
            match set.target_names().as_slice() {
                [next] if set.rtype == RecordType::CNAME && rtype != RecordType::CNAME => target = next.clone(),
                _ => return,
            }
        }
    }

    /// Whether `name` is the zone's own, as far as is known without asking: not below one of its cuts, a forward zone
    /// or an anchor, and no name that could be a cut in between but those on the way to `asked`, for which it has
    /// just answered.
    fn is_own_name(&self, zone: &Name, name: &Name, asked: &Name) -> bool {
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
        let is_cut_free = |at: &Name| at.zone_of(asked) || self.zones.is_proven_cut_free(at, now);
        is_whole
            && (zone.iter().count() + 1..=labels).all(|count| {
                let at = name.trim_to(count);
                !is_cut(&at) && (count == labels || is_cut_free(&at))
            })
    }
}
