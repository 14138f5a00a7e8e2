//! Places for what is open towards servers, sockets or connections: so many in all, and so many for each address.
//!
//! Who finds none free gets that of the exchange that has been open longest without use, as soon as that has had
//! [`limits::PLACE_HELD`] for itself: a server that answers has mostly done so by then, and its question goes out
//! again. So nobody is kept out by servers that hold what they were given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::limits;

/// The places, and who holds them. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    whole: Arc<Semaphore>,
    per_address: usize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// By when they were taken or last used.
    holders: BTreeMap<u64, Holder>,
    shares: HashMap<IpAddr, Share>,
    next: u64,
}

#[derive(Debug)]
struct Holder {
    address: IpAddr,
    since: Instant,
    lost: Arc<Notify>,
    _permits: [OwnedSemaphorePermit; 2],
}

/// The part of one address. It is there as long as somebody holds a place of it or waits for one.
#[derive(Debug)]
struct Share {
    free: Arc<Semaphore>,
    held: BTreeSet<u64>,
    waiting: usize,
}

/// A place that is held until it is dropped, or lost.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: Mutex<u64>,
    lost: Arc<Notify>,
}

/// Somebody who waits for a place of an address.
struct Waiting<'a> {
    places: &'a Places,
    address: IpAddr,
}

/// Whose places may be taken.
#[derive(Clone, Copy)]
enum Among {
    Address(IpAddr),
    All,
}

impl Places {
    /// `most` places, of which each address has `per_address` at most.
    pub fn new(most: usize, per_address: usize) -> Self {
        let whole = Arc::new(Semaphore::new(most));
        Self(Arc::new(Inner { whole, per_address, books: Mutex::default() }))
    }

    /// Likewise, where `most` is meant for a process that may open [`limits::DESCRIPTORS`] files: fewer where this one may
    /// not, so that questions wait for places and all else still finds descriptors.
    pub fn within_open_files(most: usize, per_address: usize) -> Self {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((limits::DESCRIPTORS, limits::DESCRIPTORS));
        Self::new(scaled(most, soft), per_address)
    }

    /// A place for an exchange with `address`, in the order of asking. `None` never happens while this lives.
    pub async fn take(&self, address: IpAddr) -> Option<Place> {
        let (waiting, share) = self.wait(address);
        let of_address = self.permit(share, Among::Address(address)).await?;
        let of_all = self.permit(Arc::clone(&self.0.whole), Among::All).await?;
        let lost = Arc::new(Notify::new());
        let number = {
            let (since, lost) = (Instant::now(), Arc::clone(&lost));
            self.0.books.lock().enter(Holder { address, since, lost, _permits: [of_address, of_all] })
        };
        drop(waiting);
        Some(Place { places: self.clone(), number: Mutex::new(number), lost })
    }

    fn wait(&self, address: IpAddr) -> (Waiting<'_>, Arc<Semaphore>) {
        let mut books = self.0.books.lock();
        let share = books.shares.entry(address).or_insert_with(|| Share {
            free: Arc::new(Semaphore::new(self.0.per_address)),
            held: BTreeSet::new(),
            waiting: 0,
        });
        share.waiting += 1;
        (Waiting { places: self, address }, Arc::clone(&share.free))
    }

    /// Waits for one that is free, and meanwhile sees that one becomes so.
    async fn permit(&self, free: Arc<Semaphore>, among: Among) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
            return Some(permit);
        }
        let mut permit = pin!(free.acquire_owned());
        loop {
            let wake =
                self.0.books.lock().oldest(among).map_or_else(Instant::now, |(_, since)| since) + limits::PLACE_HELD;
            tokio::select! {
                biased;
                permit = &mut permit => return permit.ok(),
                () = sleep_until(wake) => self.make_room(among),
            }
        }
    }

    /// Takes the place of the one that has held it longest, if that is long enough.
    fn make_room(&self, among: Among) {
        let mut books = self.0.books.lock();
        let long_enough = Instant::now().checked_sub(limits::PLACE_HELD);
        let Some((number, since)) = books.oldest(among) else { return };
        if long_enough.is_some_and(|latest| since <= latest)
            && let Some(holder) = books.leave(number)
        {
            holder.lost.notify_one();
        }
    }
}

/// `most` of [`limits::DESCRIPTORS`], as a part of `files`.
fn scaled(most: usize, files: u64) -> usize {
    let part = most as u64 * files.min(limits::DESCRIPTORS) / limits::DESCRIPTORS;
    // No more than `most`, so it fits.
    (part as usize).max(1)
}

impl Books {
    fn enter(&mut self, holder: Holder) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(share) = self.shares.get_mut(&holder.address) {
            share.held.insert(number);
        }
        self.holders.insert(number, holder);
        number
    }

    fn leave(&mut self, number: u64) -> Option<Holder> {
        let holder = self.holders.remove(&number)?;
        if let Some(share) = self.shares.get_mut(&holder.address) {
            share.held.remove(&number);
        }
        self.forget(holder.address);
        Some(holder)
    }

    /// As if the place had been taken now.
    fn renew(&mut self, number: u64) -> Option<u64> {
        let holder = self.holders.remove(&number)?;
        if let Some(share) = self.shares.get_mut(&holder.address) {
            share.held.remove(&number);
        }
        Some(self.enter(Holder { since: Instant::now(), ..holder }))
    }

    /// Forgets the share of an address that is not in use.
    fn forget(&mut self, address: IpAddr) {
        if self.shares.get(&address).is_some_and(|share| share.held.is_empty() && share.waiting == 0) {
            self.shares.remove(&address);
        }
    }

    fn oldest(&self, among: Among) -> Option<(u64, Instant)> {
        let number = match among {
            Among::All => *self.holders.first_key_value()?.0,
            Among::Address(address) => *self.shares.get(&address)?.held.first()?,
        };
        Some((number, self.holders.get(&number)?.since))
    }
}

impl Place {
    /// Ends when somebody else has got the place: what is open here is to be closed at once.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// It was of use just now, and is the last to be lost.
    pub fn used(&self) {
        let mut number = self.number.lock();
        if let Some(renewed) = self.places.0.books.lock().renew(*number) {
            *number = renewed;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let number = *self.number.lock();
        // Outside of the lock: whoever waits is woken.
        let left = self.places.0.books.lock().leave(number);
        drop(left);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut books = self.places.0.books.lock();
        if let Some(share) = books.shares.get_mut(&self.address) {
            share.waiting = share.waiting.saturating_sub(1);
        }
        books.forget(self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    async fn taken(places: &Places, last: u8) -> Place {
        places.take(address(last)).await.expect("a place")
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_new_gets_the_place_of_who_has_held_one_longest() {
        let places = Places::new(4, 4);
        let mut held = Vec::new();
        for last in 0..4 {
            held.push(taken(&places, last).await);
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let begin = Instant::now();
        let newcomer = taken(&places, 9).await;
        assert_eq!(begin.elapsed().as_millis(), limits::PLACE_HELD.as_millis() - 40);
        held[0].lost().await;
        drop(newcomer);
        let begin = Instant::now();
        let _another = taken(&places, 9).await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "one is free");
        for held in &held[1..] {
            assert!(futures_util::FutureExt::now_or_never(held.lost()).is_none(), "one was enough");
        }
    }

    #[test]
    fn a_process_with_few_open_files_has_few_places() {
        assert_eq!(scaled(4_096, u64::MAX), 4_096);
        assert_eq!(scaled(4_096, limits::DESCRIPTORS), 4_096);
        assert_eq!(scaled(4_096, 1_024), 256);
        assert_eq!(scaled(4_096, 0), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_is_lost_last() {
        let places = Places::new(2, 2);
        let (used, unused) = (taken(&places, 1).await, taken(&places, 2).await);
        tokio::time::advance(limits::PLACE_HELD).await;
        used.used();
        let _newcomer = taken(&places, 3).await;
        unused.lost().await;
        assert!(futures_util::FutureExt::now_or_never(used.lost()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_address_has_more_than_its_share() {
        let places = Places::new(100, 3);
        let held = [taken(&places, 1).await, taken(&places, 1).await, taken(&places, 1).await];
        let begin = Instant::now();
        let _other = taken(&places, 2).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let _fourth = taken(&places, 1).await;
        assert_eq!(begin.elapsed().as_millis(), limits::PLACE_HELD.as_millis());
        held[0].lost().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_served_in_the_order_it_came_and_nothing_remains_of_it() {
        let places = Places::new(8, 8);
        let mut crowd = Vec::new();
        for last in 0..80 {
            let places = places.clone();
            crowd.push(tokio::spawn(async move {
                let place = taken(&places, last).await;
                place.lost().await;
            }));
            tokio::task::yield_now().await;
        }
        let begin = Instant::now();
        let innocent = taken(&places, 200).await;
        assert!(begin.elapsed() <= limits::PLACE_HELD * 10, "{:?}", begin.elapsed());
        // Those who wait and give up leave nothing, either.
        crowd.iter().for_each(|one| one.abort());
        for one in crowd {
            let _ = one.await;
        }
        drop(innocent);
        let books = places.0.books.lock();
        assert!(books.holders.is_empty() && books.shares.is_empty(), "{books:?}");
        assert_eq!(places.0.whole.available_permits(), 8);
    }
}
