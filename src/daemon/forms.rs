//! The operator's forms of the socketmap (design §10), for tools made for postfix-tlspol: `JSON <domain>` from
//! this machine; `DUMP`, `EXPORT` and `PURGE` from Unix sockets, and only of root and the daemon's own user: whoever may
//! ask for a policy may not for that erase all of them.

use std::sync::Arc;

use bytes::Bytes;

use super::service::Shared;
use crate::caller::Caller;
use crate::config::MapOptions;
use crate::control::purge::Purge;
use crate::control::{listing, report};
use crate::names::NextHop;
use crate::socketmap::{Answer, Peer, Reply, Request};
use crate::telemetry::clean::clean_json;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Dump,
    Export,
    Purge,
}

/// What becomes of a request whose name is no map's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A form, by somebody who may ask it; the caller where it is one of those that only a few may.
    May(Form, Caller),
    /// A form, by a local user who may not.
    MayNot(Form, Caller),
    /// No form, or from where there is none: an unknown map.
    Nothing,
}

impl Form {
    const ALL: [Self; 4] = [Self::Json, Self::Dump, Self::Export, Self::Purge];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Dump => "DUMP",
            Self::Export => "EXPORT",
            Self::Purge => "PURGE",
        }
    }

    /// `own` is the user that this process runs as.
    pub(super) fn of(request: &Request<'_>, own: u32) -> Asked {
        let is_asked = |form: &Self| request.name.eq_ignore_ascii_case(form.name().as_bytes());
        let Some(form) = Self::ALL.into_iter().find(is_asked) else { return Asked::Nothing };
        match (form, request.peer) {
            (Self::Json, Peer::Unix(caller)) => Asked::May(form, caller),
            (Self::Json, Peer::Loopback) => Asked::May(form, Caller::default()),
            (Self::Dump | Self::Export | Self::Purge, Peer::Unix(caller)) if caller.may_operate(own) => {
                Asked::May(form, caller)
            }
            (Self::Dump | Self::Export | Self::Purge, Peer::Unix(caller)) => Asked::MayNot(form, caller),
            (_, Peer::Loopback | Peer::Remote) => Asked::Nothing,
        }
    }

    /// `map` is the one that listings show.
    pub(super) fn answer(self, request: &Request<'_>, caller: Caller, shared: Arc<Shared>, map: MapOptions) -> Answer {
        let now = shared.clock.stamp();
        match self {
            Self::Json => json(request.key, shared, map),
            Self::Dump => {
                listing::told_everything("DUMP", caller);
                text(listing::lines(&listing::rows(&shared.policy, &map, now)))
            }
            Self::Export => {
                listing::told_everything("EXPORT", caller);
                text(listing::export(&shared.policy, &map, now))
            }
            Self::Purge => purge(request.key, caller, shared),
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
            match report.as_tlspol() {
                Ok(report) => plain_json(&report),
                Err(error) => Reply::temporary(&error.to_string()),
            }
        })),
        Err(error) => Answer::Now(plain_json(&serde_json::json!({ "error": error.to_string() }))),
    }
}

fn plain_json(value: &impl serde::Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(text) => Reply::plain(Bytes::from(clean_json(&text).into_owned() + "\n"), false),
        Err(error) => Reply::temporary(&error.to_string()),
    }
}

/// `OK` once it would survive a crash.
fn purge(key: &[u8], caller: Caller, shared: Arc<Shared>) -> Answer {
    let wanted = match key {
        // As postfix-tlspol's own tool says "everything".
        [] => Purge::All,
        key => match Purge::of(key) {
            Ok(wanted) => wanted,
            Err(error) => return text(format!("ERROR: {error}\n")),
        },
    };
    Answer::Later(Box::pin(async move {
        wanted.run(&shared.policy, caller).await;
        Reply::plain(Bytes::from_static(b"OK\n"), true)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn who_may_ask_what() {
        const OWN: u32 = 998;
        let unix = |uid| Peer::Unix(Caller { uid, pid: Some(7) });
        let peers = [unix(Some(0)), unix(Some(OWN)), unix(Some(65_534)), unix(None), Peer::Loopback, Peer::Remote];
        for (name, expected) in [
            ("JSON", "yyyyy-"),
            ("json", "yyyyy-"),
            ("DUMP", "yynn--"),
            ("dump", "yynn--"),
            ("EXPORT", "yynn--"),
            ("PURGE", "yynn--"),
            ("QUERY", "------"),
            ("", "------"),
        ] {
            let received = Clock::system().stamp();
            let of = |peer| match Form::of(&Request { name: name.as_bytes(), key: b"", peer, received }, OWN) {
                Asked::May(..) => 'y',
                Asked::MayNot(..) => 'n',
                Asked::Nothing => '-',
            };
            assert_eq!(peers.map(of).iter().collect::<String>(), expected, "{name}");
        }
    }
}
