//! What is remembered of each server: round trips, silence, and what it cannot do.
//!
//! In: what happened to each try. Out: what asking a server is expected to cost, how long to wait for it and in
//! which form to ask. Never sends anything, never reads a clock: `now` is an argument.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::Name;

use crate::clock::Instant;
use crate::dns::{Habit, Habits};
use crate::limits;

/// What asking a server that nothing is known of is expected to cost.
const UNKNOWN_COST: Duration = Duration::from_millis(250);
/// Beyond this a round trip counts a tenth: a server that answers late still comes before a second try at one that
/// has not answered.
const LATE_COST: Duration = Duration::from_millis(500);
/// Added while its address family has not yet worked here: let the family that works go first.
const UNPROVEN_FAMILY_COST: Duration = Duration::from_millis(100);
/// Cost of a server that is silent; far above any real round trip, so that it is asked last.
const SILENT_COST: Duration = Duration::from_secs(10);
/// Cost of a server whose address family does not work here.
const DEAD_FAMILY_COST: Duration = Duration::from_secs(15);
/// Cost of a server that refused this zone a short while ago.
const LAME_COST: Duration = Duration::from_secs(20);
/// Silences in a row after which a server that has answered before counts as silent.
const SILENCES_TO_DOUBT: u32 = 3;
/// Silences in a row after which a server is not worth a full round of tries.
const SILENCES_TO_GIVE_UP: u32 = 16;
/// Silences in a row, over all its servers, after which a family that has worked before counts as dead; and how long they
/// must have lasted, without an answer from any server of the family, while the other one answers. Strangers' servers may be
/// silent as they please: what answers is never second choice for that.
const SILENCES_TO_DOUBT_FAMILY: u32 = 12;
/// See [`SILENCES_TO_DOUBT_FAMILY`].
const FAMILY_SILENT_FOR: Duration = Duration::from_secs(10);
/// First and longest time for which a silent server is not probed.
const SILENT_FOR: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(900));
/// First and longest time for which a dead family is not tried.
const FAMILY_DEAD_FOR: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(900));
/// How long a server is known to refuse a zone.
const LAME_FOR: Duration = Duration::from_secs(120);
/// Zones that one server is known to refuse.
const LAME_ZONES: usize = 8;
/// How long a server is asked without what broke (EDNS, cookies, 0x20).
const BROKEN_FOR: Duration = Duration::from_secs(900);
/// How long it counts that a server did well with mixed case or cookies. It may be replaced by another.
const WORKS_FOR: Duration = Duration::from_secs(3_600);
/// Questions that a server must have answered only without mixed case (or cookies), after silence, before it is asked
/// without from the start: one forged datagram, or a few lost ones, turn no protection off.
const TIMES_BROKEN: u8 = 3;
/// How long a server that answered over TCP alone is asked over TCP from the start.
const STREAM_FOR: Duration = Duration::from_secs(900);

/// A part of a query that some servers cannot stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// Random case of letters (0x20).
    Case,
    /// A cookie (RFC 7873).
    Cookie,
    /// The OPT record (RFC 6891).
    Edns,
}

/// Of what is in a query: what the server has not been seen to do well with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubts {
    /// Mixed case.
    pub case: bool,
    /// The cookie.
    pub cookie: bool,
    /// The OPT record.
    pub edns: bool,
}

/// How to ask a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Send an OPT record.
    pub edns: bool,
    /// Send our cookie for this server and the server's own, where it gave one.
    pub cookie: Option<Cookie>,
    /// Randomise the case of the name.
    pub mixed_case: bool,
    /// Ask over TCP: datagrams do not reach it, or not us.
    pub by_stream: bool,
    /// What may break the server.
    pub doubts: Doubts,
}

impl Form {
    /// The same without a part.
    pub fn without(mut self, feature: Feature) -> Self {
        match feature {
            Feature::Case => self.mixed_case = false,
            Feature::Cookie => self.cookie = None,
            Feature::Edns => (self.edns, self.cookie) = (false, None),
        }
        self.doubts.case &= self.mixed_case;
        self.doubts.cookie &= self.cookie.is_some();
        self.doubts.edns &= self.edns;
        self
    }

    /// What to leave out next, where the server may break on something: `suspect` first, then mixed case, the cookie, and
    /// EDNS last, without which there are no signatures.
    pub fn next_doubt(&self, suspect: Option<Feature>) -> Option<Feature> {
        let Doubts { case, cookie, edns } = self.doubts;
        let doubted = [(Feature::Case, case), (Feature::Cookie, cookie), (Feature::Edns, edns)];
        let mut doubted = doubted.into_iter().filter_map(|(feature, doubted)| doubted.then_some(feature));
        let first = doubted.next()?;
        Some(suspect.filter(|suspect| doubted.any(|other| other == *suspect)).unwrap_or(first))
    }
}

/// A cookie pair (RFC 7873 §4): ours, and the server's (empty until it gave one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cookie {
    /// Ours: random for each server, so that it says nothing to others (RFC 9018 §3).
    pub client: [u8; 8],
    /// The server's, 8 to 32 octets.
    pub server: Box<[u8]>,
}

/// What asking one server is expected to cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    /// To be compared with that of others, not a promise.
    pub cost: Duration,
    /// How long to wait before the question is sent again.
    pub timeout: Duration,
    /// It has been answering.
    pub healthy: bool,
    /// It has been silent for so long that a full round of tries is not worth it.
    pub hopeless: bool,
    /// It was silent, and the time has come to see whether it still is.
    pub probe_due: bool,
}

/// All servers that something is known of, bounded by [`limits::SERVERS_REMEMBERED`].
#[derive(Debug, Default)]
pub(super) struct Table {
    servers: HashMap<SocketAddr, Entry>,
    v4: Family,
    v6: Family,
}

#[derive(Debug)]
struct Entry {
    used: Instant,
    round_trip: Option<RoundTrip>,
    silence: Silence,
    client_cookie: [u8; 8],
    server_cookie: Box<[u8]>,
    /// It has answered with an OPT record.
    edns_seen: bool,
    no_edns_until: Option<Instant>,
    no_cookie_until: Option<Instant>,
    no_mixed_case_until: Option<Instant>,
    /// It has answered a question in mixed case well; likewise one with a cookie.
    mixed_case_works_until: Option<Instant>,
    cookies_work_until: Option<Instant>,
    /// Questions in a row that it answered only without.
    broken_by_case: u8,
    broken_by_cookies: u8,
    by_stream_until: Option<Instant>,
    lame: Vec<(Name, Instant)>,
}

/// Smoothed round trip and its variation (RFC 6298 §2).
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
}

/// Tries without an answer, in a row, and what follows from them.
#[derive(Debug, Default)]
struct Silence {
    count: u32,
    until: Option<Instant>,
    last: Duration,
}

#[derive(Debug, Default)]
struct Family {
    /// When any of its servers answered last.
    heard: Option<Instant>,
    /// When the first of the silences since then was noted.
    silent_since: Option<Instant>,
    silence: Silence,
}

impl Family {
    fn worked(&self) -> bool {
        self.heard.is_some()
    }

    fn answered(&mut self, now: Instant) {
        *self = Self { heard: Some(now), ..Self::default() };
    }

    /// One of its servers did not answer, or could not be reached; `other` is when the other family was heard last. A
    /// family that never worked is doubted at once.
    fn failed(&mut self, other: Option<Instant>, now: Instant) {
        let since = *self.silent_since.get_or_insert(now);
        let has_lasted = now.saturating_duration_since(since) >= FAMILY_SILENT_FOR;
        // With the other one silent as well it may be the network.
        let is_it = has_lasted && other.is_some_and(|heard| heard >= since);
        let doubt = match self.heard {
            None => 1,
            Some(_) if is_it => SILENCES_TO_DOUBT_FAMILY,
            Some(_) => u32::MAX,
        };
        self.silence.note(doubt, FAMILY_DEAD_FOR, now);
    }
}

impl RoundTrip {
    fn update(known: Option<Self>, sample: Duration) -> Self {
        match known {
            None => Self { smoothed: sample, variation: sample / 2 },
            Some(Self { smoothed, variation }) => Self {
                smoothed: (smoothed * 7 + sample) / 8,
                variation: (variation * 3 + smoothed.abs_diff(sample)) / 4,
            },
        }
    }

    fn timeout(self) -> Duration {
        let slack = (self.variation * 4).max(limits::RETRANSMIT_SLACK);
        (self.smoothed + slack).min(limits::RETRANSMIT_MAX)
    }
}

fn known_cost(round_trip: Duration) -> Duration {
    round_trip.min(LATE_COST) + round_trip.saturating_sub(LATE_COST) / 10
}

impl Silence {
    /// Counts one more; beyond `doubt` of them in a row, leaves it alone for a while, longer each time.
    fn note(&mut self, doubt: u32, (first, longest): (Duration, Duration), now: Instant) {
        self.count = self.count.saturating_add(1);
        if self.count >= doubt && self.until.is_none_or(|until| until <= now) {
            self.last = (self.last * 2).clamp(first, longest);
            self.until = Some(now + self.last);
        }
    }

    fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

impl Entry {
    fn new(client_cookie: [u8; 8], now: Instant) -> Self {
        Self {
            used: now,
            round_trip: None,
            silence: Silence::default(),
            client_cookie,
            server_cookie: Box::default(),
            edns_seen: false,
            no_edns_until: None,
            no_cookie_until: None,
            no_mixed_case_until: None,
            mixed_case_works_until: None,
            cookies_work_until: None,
            broken_by_case: 0,
            broken_by_cookies: 0,
            by_stream_until: None,
            lame: Vec::new(),
        }
    }

    fn is_lame(&self, zone: &Name, now: Instant) -> bool {
        self.lame.iter().any(|(lame, until)| now < *until && lame == zone)
    }
}

impl Table {
    /// What asking `server` about `zone` is expected to cost.
    pub fn outlook(&self, server: SocketAddr, zone: &Name, now: Instant) -> Outlook {
        let family = self.family(server);
        let entry = self.servers.get(&server);
        let silent = entry.is_some_and(|entry| entry.silence.until.is_some());
        let mut cost = match entry.and_then(|entry| entry.round_trip) {
            _ if silent => SILENT_COST,
            Some(round_trip) => known_cost(round_trip.smoothed),
            None if family.worked() => UNKNOWN_COST,
            None => UNKNOWN_COST + if server.is_ipv6() { UNPROVEN_FAMILY_COST } else { Duration::ZERO },
        };
        if family.silence.lasts(now) {
            cost = cost.max(DEAD_FAMILY_COST);
        }
        if entry.is_some_and(|entry| entry.is_lame(zone, now)) {
            cost = cost.max(LAME_COST);
        }
        Outlook {
            cost,
            timeout: entry.and_then(|e| e.round_trip).map_or(limits::FIRST_TIMEOUT, RoundTrip::timeout),
            healthy: entry.is_some_and(|entry| entry.round_trip.is_some()) && !silent,
            hopeless: entry.is_some_and(|entry| entry.silence.count >= SILENCES_TO_GIVE_UP),
            probe_due: silent && !family.silence.lasts(now) && entry.is_some_and(|entry| !entry.silence.lasts(now)),
        }
    }

    /// How to ask `server` now. `fresh` is its client cookie, should none be known.
    pub fn form(&mut self, server: SocketAddr, fresh: [u8; 8], mixed_case: bool, now: Instant) -> Form {
        let entry = self.entry(server, fresh, now);
        let lasts = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let edns = !lasts(entry.no_edns_until);
        let cookie = Cookie { client: entry.client_cookie, server: entry.server_cookie.clone() };
        let cookie = (edns && !lasts(entry.no_cookie_until)).then_some(cookie);
        let mixed_case = mixed_case && !lasts(entry.no_mixed_case_until);
        let doubts = Doubts {
            case: mixed_case && !lasts(entry.mixed_case_works_until),
            cookie: cookie.is_some() && !lasts(entry.cookies_work_until),
            edns: edns && !entry.edns_seen,
        };
        Form { edns, cookie, mixed_case, by_stream: lasts(entry.by_stream_until), doubts }
    }

    /// The server answered well when it was asked in this form.
    pub fn worked(&mut self, server: SocketAddr, form: &Form, now: Instant) {
        if let Some(entry) = self.servers.get_mut(&server) {
            if form.mixed_case {
                (entry.mixed_case_works_until, entry.broken_by_case) = (Some(now + WORKS_FOR), 0);
            }
            if form.edns && form.cookie.is_some() {
                (entry.cookies_work_until, entry.broken_by_cookies) = (Some(now + WORKS_FOR), 0);
            }
        }
    }

    /// The server answered, and only without this. `said_so`: with it, it answered with an error; else it was silent, as a
    /// network that loses packets is, too. Forgotten after a while: a zone that becomes signed needs EDNS.
    pub fn breaks(&mut self, server: SocketAddr, feature: Feature, said_so: bool, now: Instant) {
        let Some(entry) = self.servers.get_mut(&server) else { return };
        let until = Some(now + BROKEN_FOR);
        let is_sure = |times: &mut u8| {
            *times = times.saturating_add(1);
            said_so || *times >= TIMES_BROKEN
        };
        match feature {
            Feature::Case => {
                if is_sure(&mut entry.broken_by_case) {
                    (entry.no_mixed_case_until, entry.mixed_case_works_until) = (until, None);
                }
            }
            Feature::Cookie => {
                if is_sure(&mut entry.broken_by_cookies) {
                    (entry.no_cookie_until, entry.cookies_work_until) = (until, None);
                    entry.server_cookie = Box::default();
                }
            }
            Feature::Edns => entry.no_edns_until = until,
        }
    }

    /// What was found out of the server's ways.
    pub fn habits(&self, server: SocketAddr, now: Instant) -> Habits {
        let Some(entry) = self.servers.get(&server) else { return Habits::default() };
        let lasts = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let known = [
            (Habit::NoEdns, lasts(entry.no_edns_until)),
            (Habit::NoCookies, lasts(entry.no_cookie_until) || entry.broken_by_cookies > 0),
            (Habit::NoMixedCase, lasts(entry.no_mixed_case_until) || entry.broken_by_case > 0),
            (Habit::TcpAlone, lasts(entry.by_stream_until)),
        ];
        known.into_iter().filter_map(|(habit, known)| known.then_some(habit)).collect()
    }

    /// Whether this is the client cookie that the server gets from us.
    pub fn is_our_cookie(&self, server: SocketAddr, client: [u8; 8]) -> bool {
        self.servers.get(&server).is_some_and(|entry| entry.client_cookie == client)
    }

    /// The server answered over TCP, and to no datagram.
    pub fn datagrams_get_lost(&mut self, server: SocketAddr, now: Instant) {
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.by_stream_until = Some(now + STREAM_FOR);
        }
    }

    /// A message came, after `round_trip` where that can be told (UDP).
    pub fn answered(&mut self, server: SocketAddr, round_trip: Option<Duration>, now: Instant) {
        self.families(server).0.answered(now);
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.silence = Silence::default();
            if let Some(sample) = round_trip {
                entry.round_trip = Some(RoundTrip::update(entry.round_trip, sample));
            }
        }
    }

    /// No answer within the timeout. A server (or family) that never answered is doubted at once.
    pub fn silent(&mut self, server: SocketAddr, now: Instant) {
        self.family_failed(server, now);
        if let Some(entry) = self.servers.get_mut(&server) {
            let doubt = if entry.round_trip.is_some() { SILENCES_TO_DOUBT } else { 1 };
            entry.silence.note(doubt, SILENT_FOR, now);
        }
    }

    /// The server's host refuses: as good as silence that lasted.
    pub fn refused(&mut self, server: SocketAddr, now: Instant) {
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.silence.note(1, SILENT_FOR, now);
        }
    }

    /// This host has no route to the server, or a host on the way says so: then only to that one.
    pub fn unreachable(&mut self, server: SocketAddr, now: Instant) {
        self.family_failed(server, now);
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.silence.note(1, SILENT_FOR, now);
        }
    }

    /// A probe of a silent server leaves now: none further for twice the time that it was last left alone.
    pub fn probing(&mut self, server: SocketAddr, now: Instant) {
        if let Some(entry) = self.servers.get_mut(&server) {
            let Silence { until, last, .. } = &mut entry.silence;
            *last = (*last * 2).min(SILENT_FOR.1);
            *until = Some(now + *last);
        }
    }

    /// The server is of no use for `zone`, for a while.
    pub fn lame(&mut self, server: SocketAddr, zone: &Name, now: Instant) {
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.lame.retain(|(lame, until)| now < *until && lame != zone);
            if entry.lame.len() >= LAME_ZONES {
                entry.lame.remove(0);
            }
            entry.lame.push((zone.clone(), now + LAME_FOR));
        }
    }

    /// The server answered with an OPT record, and this cookie of its own (where it is new).
    pub fn edns_works(&mut self, server: SocketAddr, server_cookie: Option<&[u8]>) {
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.edns_seen = true;
            entry.no_edns_until = None;
            if let Some(cookie) = server_cookie.filter(|cookie| **cookie != *entry.server_cookie) {
                entry.server_cookie = cookie.into();
            }
        }
    }

    /// The server stopped sending cookies, as it said over TCP.
    pub fn cookies_ended(&mut self, server: SocketAddr) {
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.server_cookie = Box::default();
        }
    }

    fn entry(&mut self, server: SocketAddr, fresh: [u8; 8], now: Instant) -> &mut Entry {
        if self.servers.len() >= limits::SERVERS_REMEMBERED && !self.servers.contains_key(&server) {
            self.make_room(now);
        }
        let entry = self.servers.entry(server).or_insert_with(|| Entry::new(fresh, now));
        entry.used = now;
        entry
    }

    /// Forgets what was not used for an hour; where that is little, every other server.
    fn make_room(&mut self, now: Instant) {
        self.servers.retain(|_, entry| now.saturating_duration_since(entry.used) < Duration::from_secs(3_600));
        if self.servers.len() > limits::SERVERS_REMEMBERED / 4 * 3 {
            let mut keep = false;
            self.servers.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }

    fn family(&self, server: SocketAddr) -> &Family {
        if server.is_ipv6() { &self.v6 } else { &self.v4 }
    }

    /// That of the server, and the other one.
    fn families(&mut self, server: SocketAddr) -> (&mut Family, &mut Family) {
        if server.is_ipv6() { (&mut self.v6, &mut self.v4) } else { (&mut self.v4, &mut self.v6) }
    }

    fn family_failed(&mut self, server: SocketAddr, now: Instant) {
        let (family, other) = self.families(server);
        family.failed(other.heard, now);
    }
}
