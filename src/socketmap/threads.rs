//! Threads for connections, each with an event loop of its own: a request that can be answered from memory is read,
//! answered and written without another thread being woken or asked for work.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// Running threads; they end with their last drop, and what they serve with them.
#[derive(Debug)]
pub struct Threads {
    handles: Vec<Handle>,
    turn: AtomicUsize,
    _end: watch::Sender<()>,
}

impl Threads {
    /// Starts `count` threads.
    pub fn start(count: usize) -> io::Result<Self> {
        let (end, ended) = watch::channel(());
        let mut handles = Vec::with_capacity(count);
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let mut ended = ended.clone();
            let serve = move || runtime.block_on(async move { while ended.changed().await.is_ok() {} });
            std::thread::Builder::new().name(format!("socketmap-{number}")).spawn(serve)?;
        }
        Ok(Self { handles, turn: AtomicUsize::new(0), _end: end })
    }

    /// The thread for the next connection: each in turn. Without threads, the one that calls.
    pub(super) fn next(&self) -> Handle {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let handle = turn.checked_rem(self.handles.len()).and_then(|index| self.handles.get(index));
        handle.cloned().unwrap_or_else(Handle::current)
    }
}
