//! Places for connections to policy hosts: so many in all, and so many for each address.
//!
//! One policy host may be that of many domains, under as many names: what it costs when it hangs is counted by its address.
//! Who comes when all places are taken gets that which has been held longest.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::FetchError;
use crate::limits::{STS_CONNECTIONS, STS_CONNECTIONS_PER_ADDRESS, STS_WAITING_PER_ADDRESS};

/// The places, and who holds them.
pub(super) struct Places {
    whole: Arc<Semaphore>,
    per_address: usize,
    waiting: usize,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    shares: HashMap<IpAddr, Arc<Semaphore>>,
    /// How many wait for a place of the address, or hold one.
    users: HashMap<IpAddr, usize>,
    /// In the order in which places were taken.
    holders: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

/// A place, until it is dropped or lost.
pub(super) struct Place<'a> {
    places: &'a Places,
    number: u64,
    lost: Arc<Notify>,
    _whole: OwnedSemaphorePermit,
    _own: Option<(OwnedSemaphorePermit, User<'a>)>,
}

/// Somebody who waits for a place of an address, or holds one.
struct User<'a> {
    places: &'a Places,
    address: IpAddr,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(STS_CONNECTIONS, STS_CONNECTIONS_PER_ADDRESS, STS_WAITING_PER_ADDRESS)
    }
}

impl Places {
    /// `most` places, of which each address has `per_address`, with `waiting` more that wait for one.
    fn new(most: usize, per_address: usize, waiting: usize) -> Self {
        Self { whole: Arc::new(Semaphore::new(most)), per_address, waiting, books: Mutex::default() }
    }

    /// A place for a connection to `address`, in the order of asking; none is an address whose share is not counted.
    /// Fails where too many wait for it already.
    pub async fn enter(&self, address: Option<IpAddr>) -> Result<Place<'_>, FetchError> {
        let own = match address {
            Some(address) => {
                let (share, user) = self.wait(share_of(address))?;
                // Never closed.
                Some((share.acquire_owned().await.map_err(|_| FetchError::Busy)?, user))
            }
            None => None,
        };
        let whole = match Arc::clone(&self.whole).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.take_the_oldest();
                Arc::clone(&self.whole).acquire_owned().await.map_err(|_| FetchError::Busy)?
            }
        };
        let lost = Arc::new(Notify::new());
        let mut books = self.books.lock();
        let number = books.next;
        books.next += 1;
        books.holders.insert(number, Arc::clone(&lost));
        drop(books);
        Ok(Place { places: self, number, lost, _whole: whole, _own: own })
    }

    fn wait(&self, address: IpAddr) -> Result<(Arc<Semaphore>, User<'_>), FetchError> {
        let mut books = self.books.lock();
        let users = books.users.entry(address).or_default();
        if *users >= self.per_address + self.waiting {
            return Err(FetchError::Busy);
        }
        *users += 1;
        let share = books.shares.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.per_address)));
        Ok((Arc::clone(share), User { places: self, address }))
    }

    fn take_the_oldest(&self) {
        let oldest = self.books.lock().holders.pop_first();
        if let Some((_, lost)) = oldest {
            lost.notify_one();
        }
    }
}

impl Place<'_> {
    /// Ends when the place is somebody else's.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.books.lock().holders.remove(&self.number);
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        let mut books = self.places.books.lock();
        let left = books.users.get(&self.address).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            books.users.remove(&self.address);
            books.shares.remove(&self.address);
        } else {
            books.users.insert(self.address, left);
        }
    }
}

/// What counts as one address: of IPv6 the network of a customer, in which addresses cost nothing.
fn share_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> 64 << 64).into()),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_so_many_that_wait() {
        let places = Places::new(10, 2, 1);
        let one = places.enter(ip("192.0.2.1")).await.expect("a place");
        let _two = places.enter(ip("::ffff:192.0.2.1")).await.expect("a place");
        let mut three = Box::pin(places.enter(ip("192.0.2.1")));
        assert!(three.as_mut().now_or_never().is_none(), "waits");
        assert!(matches!(places.enter(ip("192.0.2.1")).now_or_never(), Some(Err(FetchError::Busy))));
        let _other = places.enter(ip("192.0.2.2")).now_or_never().expect("at once").expect("a place");
        drop(one);
        assert!(three.await.is_ok(), "in its turn");
        let net = [ip("2001:db8::1"), ip("2001:db8::2"), ip("2001:db8:0:0:1::1")].map(|address| places.enter(address));
        let taken = futures_util::future::join_all(net.map(|entered| async { entered.now_or_never().is_some() })).await;
        assert_eq!(taken, [true; 3], "none of them is held");
        let _held = places.enter(ip("2001:db8::1")).await.expect("a place");
        let _held_too = places.enter(ip("2001:db8::2")).await.expect("a place");
        assert!(places.enter(ip("2001:db8::3")).now_or_never().is_none(), "one network");
        assert!(places.enter(ip("2001:db8:0:1::1")).now_or_never().is_some(), "another one");
    }

    #[tokio::test]
    async fn who_comes_when_all_are_taken_gets_that_which_was_held_longest() {
        let places = Places::new(3, 2, 1);
        let held = [
            places.enter(ip("192.0.2.1")).await.expect("a place"),
            places.enter(None).await.expect("a place"),
            places.enter(ip("192.0.2.2")).await.expect("a place"),
        ];
        let mut next = Box::pin(places.enter(ip("192.0.2.3")));
        assert!(next.as_mut().now_or_never().is_none());
        assert!(held[0].lost().now_or_never().is_some(), "the oldest");
        assert!(held[1].lost().now_or_never().is_none() && held[2].lost().now_or_never().is_none());
        drop(held);
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_those_who_left() {
        let places = Places::new(2, 1, 4);
        let one = places.enter(ip("192.0.2.1")).await.expect("a place");
        let mut gave_up = Box::pin(places.enter(ip("192.0.2.1")));
        assert!(gave_up.as_mut().now_or_never().is_none());
        drop(gave_up);
        drop(one);
        let books = places.books.lock();
        assert!(books.users.is_empty() && books.shares.is_empty() && books.holders.is_empty());
        assert_eq!(places.whole.available_permits(), 2);
    }
}
