//! Who is served, and how many queries at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::clock::Instant;
use crate::limits;

/// Access and bounds, over all sockets of the service.
#[derive(Debug)]
pub(super) struct Admission {
    allow: Vec<IpNet>,
    state: Mutex<State>,
    second: Mutex<Second>,
}

#[derive(Debug, Default)]
struct State {
    queries: usize,
    connections: usize,
    strangers: usize,
    clients: HashMap<IpAddr, Client>,
}

/// What was sent in the second that began at `since`.
#[derive(Debug)]
struct Second {
    since: Instant,
    /// REFUSED answers.
    refusals: u32,
    /// Datagrams of clients elsewhere, by network.
    answers: HashMap<IpAddr, u32>,
    /// Datagrams of those for whom there was no room in `answers`.
    others: u32,
}

/// How a datagram is answered, for its client's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As it deserves.
    Full,
    /// With TC alone: come over TCP.
    Truncated,
    /// Not at all.
    Silence,
}

/// What one client has under way; clients with nothing are not kept.
#[derive(Debug, Default)]
struct Client {
    queries: usize,
    connections: usize,
    stranger: usize,
}

/// A place for one query or connection; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
    kind: Kind,
}

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Query,
    Connection,
    /// A connection of somebody who will be refused.
    Stranger,
}

impl Admission {
    /// Serves these clients.
    pub fn new(allow: Vec<IpNet>, now: Instant) -> Arc<Self> {
        let second = Second { since: now, refusals: 0, answers: HashMap::new(), others: 0 };
        Arc::new(Self { allow, state: Mutex::default(), second: Mutex::new(second) })
    }

    /// Whether this client is served.
    pub fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.allow.iter().any(|range| range.contains(&client))
    }

    /// A place for a query or connection of this client, unless it or all together have too many.
    pub fn enter(self: &Arc<Self>, client: IpAddr, kind: Kind) -> Option<Place> {
        let mut state = self.state.lock();
        let (all, most, most_per_client) = match kind {
            Kind::Query => (state.queries, limits::DNS_QUERIES, limits::DNS_QUERIES_PER_CLIENT),
            Kind::Connection => (state.connections, limits::DNS_CONNECTIONS, limits::DNS_CONNECTIONS_PER_CLIENT),
            Kind::Stranger => (state.strangers, limits::DNS_STRANGERS, limits::DNS_STRANGERS),
        };
        if all >= most || state.clients.get(&client).is_some_and(|client| *client.count(kind) >= most_per_client) {
            return None;
        }
        *state.count(kind) += 1;
        *state.clients.entry(client).or_default().count_mut(kind) += 1;
        Some(Place { admission: Arc::clone(self), client, kind })
    }

    /// Whether one more stranger may be told REFUSED: senders can be forged.
    pub fn may_refuse(&self, now: Instant) -> bool {
        let mut second = self.second.lock();
        second.move_on(now);
        second.refusals = second.refusals.saturating_add(1);
        second.refusals <= limits::DNS_REFUSALS_PER_SECOND
    }

    /// How a datagram from `client`, who is not on this host, is answered.
    pub fn pace(&self, client: IpAddr, now: Instant) -> Pace {
        let mut second = self.second.lock();
        second.move_on(now);
        let network = network(client);
        let has_room = second.answers.len() < limits::DNS_PACED_CLIENTS || second.answers.contains_key(&network);
        let count = if has_room { second.answers.entry(network).or_default() } else { &mut second.others };
        *count = count.saturating_add(1);
        match *count {
            ..=limits::DNS_ANSWERS_PER_SECOND => Pace::Full,
            count if count / 2 <= limits::DNS_ANSWERS_PER_SECOND => Pace::Truncated,
            _ => Pace::Silence,
        }
    }

    /// Queries under way now.
    #[cfg(test)]
    pub fn queries(&self) -> usize {
        self.state.lock().queries
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.state.lock().connections
    }
}

/// Whose datagrams are counted together: an IPv6 host has a /64 of addresses (RFC 4291 §2.5.4).
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

impl Second {
    fn move_on(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since).as_secs() >= 1 {
            (self.since, self.refusals, self.others) = (now, 0, 0);
            self.answers.clear();
        }
    }
}

impl State {
    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Query => &mut self.queries,
            Kind::Connection => &mut self.connections,
            Kind::Stranger => &mut self.strangers,
        }
    }
}

impl Client {
    fn count(&self, kind: Kind) -> &usize {
        match kind {
            Kind::Query => &self.queries,
            Kind::Connection => &self.connections,
            Kind::Stranger => &self.stranger,
        }
    }

    fn count_mut(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Query => &mut self.queries,
            Kind::Connection => &mut self.connections,
            Kind::Stranger => &mut self.stranger,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        *state.count(self.kind) -= 1;
        if let Some(client) = state.clients.get_mut(&self.client) {
            *client.count_mut(self.kind) -= 1;
            if client.queries == 0 && client.connections == 0 && client.stranger == 0 {
                state.clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn only_listed_clients_are_served_in_either_form_of_their_address() {
        let allow = vec!["127.0.0.0/8".parse().expect("a range"), "fd00::/8".parse().expect("a range")];
        let admission = Admission::new(allow, Instant::now());
        for (client, allowed) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.9", true),
            ("fd00::1", true),
            ("::1", false),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(admission.allows(address(client)), allowed, "{client}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_cannot_take_all_places_and_gives_them_back() {
        let admission = Admission::new(Vec::new(), Instant::now());
        let (greedy, other) = (address("127.0.0.1"), address("127.0.0.2"));
        let mut places: Vec<Place> = Vec::new();
        while let Some(place) = admission.enter(greedy, Kind::Query) {
            places.push(place);
        }
        assert_eq!(places.len(), limits::DNS_QUERIES_PER_CLIENT);
        assert!(admission.enter(other, Kind::Query).is_some());
        assert!(admission.enter(greedy, Kind::Connection).is_some());
        drop(places);
        assert!(admission.enter(greedy, Kind::Query).is_some());
        assert!(admission.state.lock().clients.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_hear_refused_only_so_often() {
        let admission = Admission::new(Vec::new(), Instant::now());
        let told = |admission: &Admission| (0..1_000).filter(|_| admission.may_refuse(Instant::now())).count();
        assert_eq!(told(&admission), limits::DNS_REFUSALS_PER_SECOND as usize);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(told(&admission), limits::DNS_REFUSALS_PER_SECOND as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_elsewhere_that_asks_too_fast_is_told_to_come_over_tcp_and_then_nothing() {
        let admission = Admission::new(Vec::new(), Instant::now());
        let limit = limits::DNS_ANSWERS_PER_SECOND as usize;
        let paces = |client: &str| {
            let all: Vec<Pace> = (0..3 * limit).map(|_| admission.pace(address(client), Instant::now())).collect();
            [Pace::Full, Pace::Truncated, Pace::Silence].map(|pace| all.iter().filter(|one| **one == pace).count())
        };
        assert_eq!(paces("10.0.0.1"), [limit, limit + 1, limit - 1]);
        assert_eq!(paces("2001:db8::1"), [limit, limit + 1, limit - 1], "others are not in its way");
        assert_eq!(paces("2001:db8::2"), [0, 0, 3 * limit], "another address of the same host");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(paces("10.0.0.1")[0], limit);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_beyond_those_that_are_counted_share_one_rate() {
        let admission = Admission::new(Vec::new(), Instant::now());
        let clients = limits::DNS_PACED_CLIENTS as u32;
        for client in 0..clients + limits::DNS_ANSWERS_PER_SECOND {
            assert_eq!(admission.pace(IpAddr::V4(client.into()), Instant::now()), Pace::Full, "client {client}");
        }
        assert_eq!(admission.pace(IpAddr::V4(u32::MAX.into()), Instant::now()), Pace::Truncated);
        assert_eq!(admission.pace(IpAddr::V4(1.into()), Instant::now()), Pace::Full, "one of those counted");
        assert!(admission.second.lock().answers.len() <= limits::DNS_PACED_CLIENTS);
    }
}
