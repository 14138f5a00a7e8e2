//! Runs fjall on a thread of its own, behind a fence that keeps its panics and hangs from the rest.
//!
//! One damaged octet can make fjall panic, panic again while it cleans up, or ask for gigabytes of memory: each
//! would end the process, in a release build the first panic already. So a panic hook and a check in the
//! allocator stop the fenced thread where it is: it keeps what it holds until the process ends, and whoever
//! waits for it learns that it is gone.

#![allow(unsafe_code, reason = "a global allocator cannot be written without; it only passes calls on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// Something to do with what the thread holds.
type Job<T> = Box<dyn FnOnce(&mut Option<T>) + Send>;

/// The thread stopped: it panicked, or gave no answer in time. Its fence is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stopped {
    /// It panicked, or asked for more memory than there is.
    #[error("gave up")]
    GaveUp,
    /// It did not answer in time.
    #[error("no answer in time")]
    Silent,
}

thread_local! {
    /// Set on fenced threads: dropped, and so hung up, to say that the thread has panicked.
    static ALIVE: RefCell<Option<SyncSender<()>>> = const { RefCell::new(None) };
}

/// Panics on fjall's own threads, which stop in the same way.
static WORKER_PANICS: AtomicU64 = AtomicU64::new(0);
/// fjall's name for its threads.
const WORKER_THREAD: &str = "fjall:worker";

/// A thread that holds a `T` and works on it.
pub(super) struct Fence<T> {
    jobs: SyncSender<Job<T>>,
    alive: Receiver<()>,
    worker_panics: u64,
}

impl<T: 'static> Fence<T> {
    /// Starts the thread, which holds nothing yet.
    pub fn start() -> io::Result<Self> {
        install_hook();
        let (jobs, work) = mpsc::sync_channel::<Job<T>>(1);
        let (hang_up, alive) = mpsc::sync_channel(1);
        let worker_panics = WORKER_PANICS.load(Ordering::Acquire);
        std::thread::Builder::new().name("keyspace".to_owned()).spawn(move || {
            ALIVE.with(|cell| *cell.borrow_mut() = Some(hang_up));
            let mut held = None;
            while let Ok(job) = work.recv() {
                job(&mut held);
            }
            if WORKER_PANICS.load(Ordering::Acquire) == worker_panics {
                drop(held);
            } else {
                // Dropping it would wait for ever for the thread that panicked.
                std::mem::forget(held);
            }
            drop(ALIVE.take());
        })?;
        Ok(Self { jobs, alive, worker_panics })
    }

    /// Has `work` done and waits for the result at most `patience`.
    pub fn run<R: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&mut Option<T>) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        if WORKER_PANICS.load(Ordering::Acquire) != self.worker_panics {
            return Err(Stopped::GaveUp);
        }
        let (reply, result) = mpsc::sync_channel(1);
        let job: Job<T> = Box::new(move |held| {
            // Nobody may be waiting any more.
            let _ = reply.send(work(held));
        });
        self.jobs.try_send(job).map_err(|_| Stopped::Silent)?;
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        loop {
            match result.recv_timeout(step) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Err(Stopped::GaveUp),
                Err(RecvTimeoutError::Timeout) if self.has_panicked() => return Err(Stopped::GaveUp),
                Err(RecvTimeoutError::Timeout) if waited >= patience => return Err(Stopped::Silent),
                Err(RecvTimeoutError::Timeout) => waited += step,
            }
        }
    }

    /// Ends the thread and what it holds; waits for that at most `patience`.
    pub fn end(self, patience: Duration) {
        drop(self.jobs);
        // The thread hangs up when it is done, and when it panics.
        let _ = self.alive.recv_timeout(patience);
    }

    fn has_panicked(&self) -> bool {
        self.alive.try_recv() == Err(mpsc::TryRecvError::Disconnected)
    }
}

/// More than fjall ever needs at once, less than any machine that runs it can promise.
const LARGEST_ALLOCATION: usize = 256 * 1024 * 1024;

/// The system's allocator, except that a fenced thread stops at absurd requests, which come from damaged
/// lengths: refused, they would end the process.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: every call goes unchanged to the system's allocator, or does not return.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        stop_at_absurd(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        stop_at_absurd(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        stop_at_absurd(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[inline]
fn stop_at_absurd(size: usize) {
    if size > LARGEST_ALLOCATION {
        stop_if_fenced();
    }
}

/// On a fenced thread: hangs up and never returns.
fn stop_if_fenced() {
    let fenced = ALIVE.try_with(|cell| cell.try_borrow_mut().ok().and_then(|mut alive| alive.take()));
    if let Ok(Some(alive)) = fenced {
        drop(alive);
        stop();
    }
}

fn stop() -> ! {
    loop {
        std::thread::park();
    }
}

/// Adds to the panic hook, once, what stops fenced threads.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            stop_if_fenced();
            // Where panics unwind, fjall's own threads clean up after themselves.
            if cfg!(panic = "abort") && std::thread::current().name() == Some(WORKER_THREAD) {
                WORKER_PANICS.fetch_add(1, Ordering::AcqRel);
                stop();
            }
            before(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::super::alone::alone;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn work_is_done_on_what_is_held() {
        let fence = Fence::<u32>::start().expect("starts");
        fence.run(PATIENCE, |held| *held = Some(41)).expect("runs");
        assert_eq!(fence.run(PATIENCE, |held| held.map(|n| n + 1)), Ok(Some(42)));
        fence.end(PATIENCE);
    }

    #[test]
    fn a_panic_within_a_panic_stays_behind_the_fence() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        alone("cache::store::fence::tests::a_panic_within_a_panic_stays_behind_the_fence", || {
            let fence = Fence::<()>::start().expect("starts");
            let stopped = fence.run(PATIENCE, |_| {
                let _bomb = Bomb;
                panic!("once");
            });
            assert_eq!(stopped, Err::<(), _>(Stopped::GaveUp));
            fence.end(PATIENCE);
        });
    }

    #[test]
    fn an_absurd_allocation_stays_behind_the_fence() {
        let fence = Fence::<()>::start().expect("starts");
        let stopped = fence.run(PATIENCE, |_| Vec::<u8>::with_capacity(1 << 45).capacity());
        assert_eq!(stopped, Err(Stopped::GaveUp));
    }

    #[test]
    fn a_hang_is_left_alone() {
        let fence = Fence::<()>::start().expect("starts");
        let (hold, held) = mpsc::sync_channel::<()>(0);
        let stopped = fence.run(Duration::from_millis(40), move |_| held.recv().is_err());
        assert_eq!(stopped, Err(Stopped::Silent));
        drop(hold);
    }
}
