//! Which addresses of policy hosts worked last, and which were tried since: where the next fetch begins.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::limits::{STS_ADDRESSES, STS_HOSTS_REMEMBERED};

/// What is remembered of hosts with more than one address; bounded, and lost at a restart.
#[derive(Default)]
pub(super) struct KnownAddresses {
    hosts: Mutex<HashMap<Box<str>, Place>>,
}

#[derive(Default)]
struct Place {
    /// The address that gave the last policy.
    good: Option<IpAddr>,
    /// Those tried since, the latest last.
    tried: Vec<IpAddr>,
}

impl KnownAddresses {
    /// The addresses of `host` in the order to try them: what worked last, then what was not tried since, then what
    /// was, the latest last.
    pub(super) fn order(&self, host: &str, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        let mut hosts = self.hosts.lock();
        match hosts.get(host) {
            Some(place) => addresses.sort_by_key(|address| place.rank(*address)),
            None if addresses.len() > 1 => {
                // Any one makes room: all that is lost is where to begin.
                if hosts.len() >= STS_HOSTS_REMEMBERED
                    && let Some(other) = hosts.keys().next().cloned()
                {
                    hosts.remove(&other);
                }
                hosts.insert(host.into(), Place::default());
            }
            None => {}
        }
        addresses
    }

    /// An attempt at `address` begins; unless it works, others come first from now on.
    pub(super) fn tried(&self, host: &str, address: IpAddr) {
        if let Some(place) = self.hosts.lock().get_mut(host) {
            place.tried.retain(|tried| *tried != address);
            place.tried.push(address);
            if place.tried.len() > 2 * STS_ADDRESSES {
                place.tried.remove(0);
            }
        }
    }

    /// `address` gave a policy.
    pub(super) fn worked(&self, host: &str, address: IpAddr) {
        if let Some(place) = self.hosts.lock().get_mut(host) {
            *place = Place { good: Some(address), tried: Vec::new() };
        }
    }
}

impl Place {
    fn rank(&self, address: IpAddr) -> usize {
        match self.tried.iter().position(|tried| *tried == address) {
            Some(position) => position + 2,
            None if self.good == Some(address) => 0,
            None => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_worked_comes_first_and_what_failed_last() {
        let known = KnownAddresses::default();
        let list: Vec<IpAddr> = ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(|text| text.parse().expect("it")).into();
        let order = || known.order("mta-sts.example.com", list.clone());
        assert_eq!(order(), list);
        known.tried("mta-sts.example.com", list[0]);
        assert_eq!(order(), [list[1], list[2], list[0]], "a retry begins elsewhere");
        known.tried("mta-sts.example.com", list[1]);
        assert_eq!(order(), [list[2], list[0], list[1]]);
        known.worked("mta-sts.example.com", list[1]);
        assert_eq!(order(), [list[1], list[0], list[2]], "the next fetch begins where the last one worked");
        known.tried("mta-sts.example.com", list[1]);
        assert_eq!(order(), [list[0], list[2], list[1]], "until it fails");
        assert_eq!(known.order("mta-sts.example.net", list.clone()), list, "each host for itself");
    }

    #[test]
    fn the_table_is_bounded() {
        let known = KnownAddresses::default();
        let list: Vec<IpAddr> = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().expect("an address")).into();
        for number in 0..STS_HOSTS_REMEMBERED + 10 {
            known.order(&format!("mta-sts.{number}.example"), list.clone());
        }
        assert_eq!(known.hosts.lock().len(), STS_HOSTS_REMEMBERED);
    }
}
