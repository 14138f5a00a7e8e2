//! Places for what is open towards servers, sockets or connections: so many in all, so many for each address, and so many
//! for each question with all that it causes.
//!
//! Who finds none free gets that of the exchange that has been open longest without use, as soon as that has had
//! [`limits::PLACE_HELD`] for itself: a server that answers has mostly done so by then, and its question goes out
//! again. So nobody is kept out by servers that hold what they were given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::limits;

/// One lookup with all that it causes, or all lookups of one policy question: what is open for it has a share. No two are
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionId(u64);

impl Default for QuestionId {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// In all.
    pub most: usize,
    /// For one address.
    pub per_address: usize,
    /// For one question.
    pub per_question: usize,
}

impl Limits {
    /// Where they are meant for a process that may open [`limits::DESCRIPTORS`] files: fewer where this one may not, so that
    /// questions wait for places and all else still finds descriptors. The shares are smaller as well, or else one silent
    /// server could have all that there is.
    fn within(self, files: u64) -> Self {
        // No more than there are, so it fits.
        let part = |of: usize| (of as u64 * files.min(limits::DESCRIPTORS) / limits::DESCRIPTORS) as usize;
        let share = |of: usize, least: usize| part(of).max(least.min(of));
        Self {
            most: share(self.most, 1),
            per_address: share(self.per_address, LEAST_PER_ADDRESS),
            per_question: share(self.per_question, LEAST_PER_QUESTION),
        }
    }
}

/// Shares do not become smaller than this, however few files may be open.
const LEAST_PER_ADDRESS: usize = 8;
/// Likewise.
const LEAST_PER_QUESTION: usize = 16;

/// The places, and who holds them. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    whole: Arc<Semaphore>,
    limits: Limits,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// By when they were taken or last used.
    holders: BTreeMap<u64, Holder>,
    shares: HashMap<Party, Share>,
    next: u64,
}

#[derive(Debug)]
struct Holder {
    parties: [Party; 2],
    since: Instant,
    lost: Arc<Notify>,
    _permits: [OwnedSemaphorePermit; 3],
}

/// Who has a part of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Party {
    Question(QuestionId),
    Address(IpAddr),
}

/// The part of one party. It is there as long as somebody holds a place of it or waits for one.
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

/// Somebody who waits for a place of a party.
struct Waiting<'a> {
    places: &'a Places,
    party: Party,
}

/// Whose places may be taken.
#[derive(Clone, Copy)]
enum Among {
    Of(Party),
    All,
}

impl Places {
    /// So many places.
    pub fn new(limits: Limits) -> Self {
        let whole = Arc::new(Semaphore::new(limits.most));
        Self(Arc::new(Inner { whole, limits, books: Mutex::default() }))
    }

    /// Likewise, or fewer where this process may not open so many files.
    pub fn within_open_files(limits: Limits) -> Self {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((limits::DESCRIPTORS, limits::DESCRIPTORS));
        Self::new(limits.within(soft))
    }

    /// A place for an exchange with `address`, for `question`, in the order of asking. `None` never happens while this
    /// lives.
    pub async fn take(&self, address: IpAddr, question: QuestionId) -> Option<Place> {
        // The question's own first: while it waits for that, it holds nothing that others could want.
        let parties = [Party::Question(question), Party::Address(address)];
        let waiting = parties.map(|party| self.wait(party));
        let [(_, of_question), (_, of_address)] = &waiting;
        let of_question = self.permit(Arc::clone(of_question), Among::Of(parties[0])).await?;
        let of_address = self.permit(Arc::clone(of_address), Among::Of(parties[1])).await?;
        let of_all = self.permit(Arc::clone(&self.0.whole), Among::All).await?;
        let lost = Arc::new(Notify::new());
        let number = {
            let (since, lost) = (Instant::now(), Arc::clone(&lost));
            let permits = [of_question, of_address, of_all];
            self.0.books.lock().enter(Holder { parties, since, lost, _permits: permits })
        };
        drop(waiting);
        Some(Place { places: self.clone(), number: Mutex::new(number), lost })
    }

    fn wait(&self, party: Party) -> (Waiting<'_>, Arc<Semaphore>) {
        let most = match party {
            Party::Question(_) => self.0.limits.per_question,
            Party::Address(_) => self.0.limits.per_address,
        };
        let mut books = self.0.books.lock();
        let share = books.shares.entry(party).or_insert_with(|| Share {
            free: Arc::new(Semaphore::new(most)),
            held: BTreeSet::new(),
            waiting: 0,
        });
        share.waiting += 1;
        (Waiting { places: self, party }, Arc::clone(&share.free))
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

impl Books {
    fn enter(&mut self, holder: Holder) -> u64 {
        let number = self.next;
        self.next += 1;
        for party in &holder.parties {
            if let Some(share) = self.shares.get_mut(party) {
                share.held.insert(number);
            }
        }
        self.holders.insert(number, holder);
        number
    }

    fn leave(&mut self, number: u64) -> Option<Holder> {
        let holder = self.holders.remove(&number)?;
        for party in holder.parties {
            if let Some(share) = self.shares.get_mut(&party) {
                share.held.remove(&number);
            }
            self.forget(party);
        }
        Some(holder)
    }

    /// As if the place had been taken now.
    fn renew(&mut self, number: u64) -> Option<u64> {
        let holder = self.holders.remove(&number)?;
        for party in &holder.parties {
            if let Some(share) = self.shares.get_mut(party) {
                share.held.remove(&number);
            }
        }
        Some(self.enter(Holder { since: Instant::now(), ..holder }))
    }

    /// Forgets a share that is not in use.
    fn forget(&mut self, party: Party) {
        if self.shares.get(&party).is_some_and(|share| share.held.is_empty() && share.waiting == 0) {
            self.shares.remove(&party);
        }
    }

    fn oldest(&self, among: Among) -> Option<(u64, Instant)> {
        let number = match among {
            Among::All => *self.holders.first_key_value()?.0,
            Among::Of(party) => *self.shares.get(&party)?.held.first()?,
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
        if let Some(share) = books.shares.get_mut(&self.party) {
            share.waiting = share.waiting.saturating_sub(1);
        }
        books.forget(self.party);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// For a question of its own.
    async fn taken(places: &Places, last: u8) -> Place {
        places.take(address(last), QuestionId::default()).await.expect("a place")
    }

    fn places(most: usize, per_address: usize) -> Places {
        Places::new(Limits { most, per_address, per_question: most })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_new_gets_the_place_of_who_has_held_one_longest() {
        let places = places(4, 4);
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
        let within = |files| {
            let Limits { most, per_address, per_question } =
                Limits { most: 4_096, per_address: 256, per_question: 64 }.within(files);
            (most, per_address, per_question)
        };
        assert_eq!(within(u64::MAX), (4_096, 256, 64));
        assert_eq!(within(limits::DESCRIPTORS), (4_096, 256, 64));
        assert_eq!(within(1_024), (256, 16, 16), "no server can have all");
        assert_eq!(within(0), (1, 8, 16));
        let few = Limits { most: 1_024, per_address: 4, per_question: 16 }.within(1_024);
        assert_eq!((few.most, few.per_address, few.per_question), (64, 4, 16));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_is_lost_last() {
        let places = places(2, 2);
        let (used, unused) = (taken(&places, 1).await, taken(&places, 2).await);
        tokio::time::advance(limits::PLACE_HELD).await;
        used.used();
        let _newcomer = taken(&places, 3).await;
        unused.lost().await;
        assert!(futures_util::FutureExt::now_or_never(used.lost()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_address_has_more_than_its_share() {
        let places = places(100, 3);
        let held = [taken(&places, 1).await, taken(&places, 1).await, taken(&places, 1).await];
        let begin = Instant::now();
        let _other = taken(&places, 2).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let _fourth = taken(&places, 1).await;
        assert_eq!(begin.elapsed().as_millis(), limits::PLACE_HELD.as_millis());
        held[0].lost().await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_question_has_more_than_its_share_however_many_addresses_it_asks() {
        let places = Places::new(Limits { most: 100, per_address: 100, per_question: 3 });
        let question = QuestionId::default();
        let mut held = Vec::new();
        let begin = Instant::now();
        for last in 1..=3 {
            held.push(places.take(address(last), question).await.expect("a place"));
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let fourth = places.take(address(4), question);
        // Others do not wait for it, not even at the same address.
        let other = async {
            let _other = taken(&places, 4).await;
            assert_eq!(begin.elapsed(), Duration::ZERO);
        };
        let (fourth, ()) = tokio::join!(fourth, other);
        assert_eq!(begin.elapsed(), limits::PLACE_HELD);
        held[0].lost().await;
        drop((fourth, held));
        let books = places.0.books.lock();
        assert!(books.holders.is_empty() && books.shares.is_empty(), "{books:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_served_in_the_order_it_came_and_nothing_remains_of_it() {
        let places = places(8, 8);
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
