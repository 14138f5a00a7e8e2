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
}

#[derive(Debug)]
struct State {
    queries: usize,
    connections: usize,
    clients: HashMap<IpAddr, Client>,
    /// REFUSED answers in the second that began at `since`.
    refusals: u32,
    since: Instant,
}

/// What one client has under way; clients with nothing are not kept.
#[derive(Debug, Default)]
struct Client {
    queries: usize,
    connections: usize,
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
}

impl Admission {
    /// Serves these clients.
    pub fn new(allow: Vec<IpNet>, now: Instant) -> Arc<Self> {
        let state = State { queries: 0, connections: 0, clients: HashMap::new(), refusals: 0, since: now };
        Arc::new(Self { allow, state: Mutex::new(state) })
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
        };
        if all >= most || state.clients.get(&client).is_some_and(|client| *client.count(kind) >= most_per_client) {
            return None;
        }
        *state.count(kind) += 1;
        *state.clients.entry(client).or_default().count_mut(kind) += 1;
        Some(Place { admission: Arc::clone(self), client, kind })
    }

    /// Whether one more stranger may be told REFUSED over UDP: senders can be forged.
    pub fn may_refuse(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        if now.saturating_duration_since(state.since).as_secs() >= 1 {
            (state.since, state.refusals) = (now, 0);
        }
        state.refusals += 1;
        state.refusals <= limits::DNS_REFUSALS_PER_SECOND
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.state.lock().connections
    }
}

impl State {
    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Query => &mut self.queries,
            Kind::Connection => &mut self.connections,
        }
    }
}

impl Client {
    fn count(&self, kind: Kind) -> &usize {
        match kind {
            Kind::Query => &self.queries,
            Kind::Connection => &self.connections,
        }
    }

    fn count_mut(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Query => &mut self.queries,
            Kind::Connection => &mut self.connections,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        *state.count(self.kind) -= 1;
        if let Some(client) = state.clients.get_mut(&self.client) {
            *client.count_mut(self.kind) -= 1;
            if client.queries == 0 && client.connections == 0 {
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
}
