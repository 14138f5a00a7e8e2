//! Whether a name lies below a proven unsigned delegation, though nobody there may answer (RFC 4035 §5.2).
//!
//! In: a name. Out: for how long that is proven, from the zone cuts that are known and the signed zones above alone. Never
//! asks the servers of an unsigned zone.

use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use tokio::time::timeout_at;

use super::core::{Context, Core};
use super::ds_status::DsStatus;
use super::trust::{MIN_TRUST_TTL, ZoneTrust};

impl Core {
    /// Seconds for which `name` is proven to lie in an unsigned zone; none where that is not so, or not known in time.
    pub async fn proven_insecure(self: &Arc<Self>, context: &Context, name: &Name) -> Option<u32> {
        timeout_at(context.deadline, self.unsigned_above(context, name)).await.ok().flatten()
    }

    async fn unsigned_above(self: &Arc<Self>, context: &Context, name: &Name) -> Option<u32> {
        if let Some(exception) = self.exception(name, RecordType::A) {
            // RFC 7646 §2: as if the zone were not signed.
            return Some(exception.seconds_left(self.clock.wall()));
        }
        // An anchor below an unsigned delegation begins a chain of its own: that one is for the lookup itself.
        let deepest = self.zones.deepest(name, false, self.now());
        let from = deepest.name.iter().count() + 1;
        let labels = name.iter().count();
        if (from..=labels).any(|count| self.anchors().contains_key(&name.trim_to(count))) {
            return None;
        }
        let (mut zone, mut keys) = match self.trust_of(context, &deepest).await.ok()? {
            ZoneTrust::Insecure => return Some(self.trust_left(&deepest.name)),
            ZoneTrust::Secure(keys) => (deepest, keys),
        };
        // The cut on the way to the name may be forgotten, or never have been met: each signed zone knows its own.
        for count in from..=labels {
            let candidate = name.trim_to(count);
            loop {
                match self.ds_status_in(context, &zone, &keys, &candidate).await.ok()? {
                    DsStatus::NotACut => break,
                    DsStatus::Unsigned { ttl } => return Some(ttl),
                    // What is below a signed delegation only its own servers can tell.
                    DsStatus::Signed { .. } => return None,
                    DsStatus::Below(between) => match self.trust_of(context, &between).await.ok()? {
                        ZoneTrust::Insecure => return Some(MIN_TRUST_TTL),
                        ZoneTrust::Secure(inner) => (zone, keys) = (between, inner),
                    },
                }
            }
        }
        None
    }
}
