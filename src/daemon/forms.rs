//! The operator's forms of the socketmap (design §10), for tools made for postfix-tlspol: `JSON <domain>` from
//! this machine; `DUMP`, `EXPORT` and `PURGE` from Unix sockets, whose permissions say who may.

use std::sync::Arc;

use bytes::Bytes;

use super::service::Shared;
use crate::config::MapOptions;
use crate::control::{listing, report};
use crate::names::NextHop;
use crate::socketmap::{Answer, Peer, Reply, Request};

/// What is asked for, where the peer may ask it; to all others there is no such map.
pub(super) enum Form {
    Json,
    Dump,
    Export,
    Purge,
}

impl Form {
    pub(super) fn of(request: &Request<'_>) -> Option<Self> {
        let known =
            [(&b"JSON"[..], Self::Json), (b"DUMP", Self::Dump), (b"EXPORT", Self::Export), (b"PURGE", Self::Purge)];
        let (_, form) = known.into_iter().find(|(name, _)| request.name.eq_ignore_ascii_case(name))?;
        let allowed = match form {
            Self::Json => matches!(request.peer, Peer::Unix | Peer::Loopback),
            Self::Dump | Self::Export | Self::Purge => request.peer == Peer::Unix,
        };
        allowed.then_some(form)
    }

    /// `map` is the one that listings show.
    pub(super) fn answer(self, request: &Request<'_>, shared: Arc<Shared>, map: MapOptions) -> Answer {
        let now = shared.clock.stamp();
        match self {
            Self::Json => json(request.key, shared, map),
            Self::Dump => text(listing::lines(&listing::rows(&shared.policy, &map, now))),
            Self::Export => text(listing::export(&shared.policy, &map, now)),
            Self::Purge => purge(request.key, shared),
        }
    }
}

fn text(text: String) -> Answer {
    Answer::Now(Reply::plain(Bytes::from(text), true))
}

fn json(key: &[u8], shared: Arc<Shared>, map: MapOptions) -> Answer {
    match NextHop::parse(key) {
        Ok(hop) => Answer::Later(Box::pin(async move {
            let report = report::examine(&shared.policy, &shared.clock, &hop, "QUERY", &map).await;
            plain_json(&report)
        })),
        Err(error) => Answer::Now(plain_json(&serde_json::json!({ "error": error.to_string() }))),
    }
}

fn plain_json(value: &impl serde::Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(text) => Reply::plain(Bytes::from(text + "\n"), false),
        Err(error) => Reply::temporary(&error.to_string()),
    }
}

/// `OK` once it would survive a crash.
fn purge(key: &[u8], shared: Arc<Shared>) -> Answer {
    if key.is_empty() {
        shared.policy.cache().clear();
    } else {
        match NextHop::parse(key) {
            Ok(hop) => drop(shared.policy.cache().remove(&hop)),
            Err(error) => return text(format!("ERROR: {error}\n")),
        }
    }
    Answer::Later(Box::pin(async move {
        shared.policy.cache().settle().await;
        Reply::plain(Bytes::from_static(b"OK\n"), true)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn who_may_ask_what() {
        for (name, unix, loopback, remote) in [
            ("JSON", true, true, false),
            ("json", true, true, false),
            ("DUMP", true, false, false),
            ("EXPORT", true, false, false),
            ("PURGE", true, false, false),
            ("QUERY", false, false, false),
            ("", false, false, false),
        ] {
            for (peer, allowed) in [(Peer::Unix, unix), (Peer::Loopback, loopback), (Peer::Remote, remote)] {
                let received = Clock::system().stamp();
                let request = Request { name: name.as_bytes(), key: b"", peer, received };
                assert_eq!(Form::of(&request).is_some(), allowed, "{name} from {peer:?}");
            }
        }
    }
}
