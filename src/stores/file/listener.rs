//! Who listens for the bells of all file stores of this process: there is one inotify instance for all of them, for a user
//! may have few.
//!
//! A watcher on a tokio runtime waits for it by itself ([`EventWaiter`]), and whoever is woken first tells the watchers of all
//! stores. A thread for it would be a change of threads more for each event, which takes longer than all the rest. There is
//! one in any case, from the first watcher to the last, for what inotify cannot do: the bells are looked at every
//! [`SCAN_EVERY`], and every [`POLL_EVERY`] while some bell cannot be watched, because no instance is left or the platform has none.
//! While no watcher is on a runtime, it waits for the instance too.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use super::{
    core::Core,
    inotify::{Inotify, EventWaiter, FileEvents, WatchId},
    notify_reader::NotifyReader,
};

/// Has the store's watchers told of what others do, from now on, for as long as there are any.
pub(super) fn register(core: &Arc<Core>) -> Registration {
    let mut listener = lock();
    listener.add(core);
    let event_waiter = listener.inotify.as_ref().and_then(|inotify| inotify.event_waiter());
    listener.event_waiters += usize::from(event_waiter.is_some());
    Registration(event_waiter)
}

/// One watcher's way to hear of rings by itself, if it has one.
pub(super) struct Registration(Option<EventWaiter>);

impl Registration {
    /// Tells all watchers of what was rung; ready when there was something, else `cx` is woken by the next ring.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(event_waiter) = &mut self.0 else { return Poll::Pending };
        match event_waiter.poll(cx) {
            Poll::Ready(Ok(events)) => {
                dispatch(&events);
                return Poll::Ready(());
            }
            // Its runtime is gone: the thread goes on alone.
            Poll::Ready(Err(_)) => self.close(),
            Poll::Pending => {}
        }
        Poll::Pending
    }

    fn close(&mut self) {
        if self.0.take().is_some() {
            lock().event_waiters -= 1;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.close();
    }
}

static LISTENER: Mutex<Listener> = Mutex::new(Listener { stores: Vec::new(), inotify: None, refused_at: None, thread_runs: false, event_waiters: 0 });

struct Listener {
    stores: Vec<ListenedStore>,
    inotify: Option<Arc<Inotify>>,
    /// When an instance was asked for last, and refused.
    refused_at: Option<Instant>,
    /// Whether the thread runs.
    thread_runs: bool,
    /// How many watchers wait for the instance by themselves.
    event_waiters: usize,
}

/// One store that is listened for.
struct ListenedStore {
    core: Weak<Core>,
    reader: Arc<Mutex<NotifyReader>>,
    /// Absent while its bell cannot be watched.
    watch: Option<WatchId>,
}

fn lock() -> MutexGuard<'static, Listener> {
    LISTENER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run() {
    let mut last_scan = Instant::now();
    loop {
        let Some((inotify, timeout)) = next_wait() else { return };
        let timeout = timeout.min(SCAN_EVERY.saturating_sub(last_scan.elapsed()));
        let mut events = match &inotify {
            Some(inotify) => {
                inotify.wait(timeout);
                inotify.read_events()
            }
            None => {
                thread::sleep(timeout);
                FileEvents::default()
            }
        };
        if last_scan.elapsed() >= SCAN_EVERY {
            last_scan = Instant::now();
            events.check_all = true;
        }
        dispatch(&events);
    }
}

/// Drops the posts that nobody needs. Says what to wait for, if not only for the time, and how long; `None` ends the thread.
fn next_wait() -> Option<(Option<Arc<Inotify>>, Duration)> {
    let mut listener = lock();
    let (watched, unused): (Vec<_>, Vec<_>) = std::mem::take(&mut listener.stores)
        .into_iter()
        .partition(|store| store.core.upgrade().is_some_and(|core| core.is_watched()));
    listener.stores = watched;
    for watch in unused.iter().filter_map(|store| store.watch) {
        // Stores on one file share a watch.
        if let Some(inotify) = listener.inotify.as_ref().filter(|_| listener.stores.iter().all(|store| store.watch != Some(watch))) {
            inotify.unwatch(watch);
        }
    }
    if listener.stores.is_empty() {
        listener.inotify = None;
        listener.thread_runs = false;
        return None;
    }
    let all_watched = listener.stores.iter().all(|store| store.watch.is_some());
    let inotify = listener.inotify.clone().filter(|_| listener.event_waiters == 0);
    Some((inotify, if all_watched { SCAN_EVERY } else { POLL_EVERY }))
}

fn dispatch(events: &FileEvents) {
    let is_affected = |watch: &Option<WatchId>| match watch {
        Some(watch) => events.check_all || events.modified.contains(watch) || events.replaced.contains(watch),
        None => true,
    };
    let stores: Vec<_> = {
        let listener = lock();
        let stores = listener.stores.iter().filter(|store| is_affected(&store.watch));
        stores.map(|store| (Arc::clone(&store.reader), store.watch)).collect()
    };
    let mut unwatched = Vec::new();
    for (reader, watch) in stores {
        let mut locked = reader.lock().unwrap_or_else(PoisonError::into_inner);
        locked.read_new();
        let is_changed = watch.is_some_and(|watch| events.replaced.contains(&watch));
        let is_other = (events.check_all || is_changed) && locked.check_missed();
        drop(locked);
        if is_other || is_changed {
            unwatched.push(reader);
        }
    }
    if unwatched.is_empty() && !events.check_all {
        return;
    }
    let mut listener = lock();
    for store in &mut listener.stores {
        if unwatched.iter().any(|reader| Arc::ptr_eq(reader, &store.reader)) {
            store.watch = None;
        }
    }
    listener.watch_files();
}

impl Listener {
    /// Listens for this store from now on.
    fn add(&mut self, core: &Arc<Core>) {
        if self.stores.iter().any(|store| Weak::ptr_eq(&store.core, &Arc::downgrade(core))) {
            return;
        }
        let reader = Arc::new(Mutex::new(NotifyReader::new(core)));
        self.stores.push(ListenedStore { core: Arc::downgrade(core), reader, watch: None });
        self.watch_files();
        if !self.thread_runs {
            let started = thread::Builder::new().name("events-listener".into()).spawn(run);
            self.thread_runs = started.is_ok();
            if let Err(error) = started {
                tracing::error!(%error, "cannot listen for the events of other processes");
            }
        }
    }

    /// Watches the bells that are not watched yet.
    fn watch_files(&mut self) {
        if self.inotify.is_none() && self.refused_at.is_none_or(|at| at.elapsed() > RETRY_AFTER) {
            match Inotify::open() {
                Ok(inotify) => self.inotify = Some(Arc::new(inotify)),
                Err(error) => {
                    tracing::info!(%error, "no inotify instance; polling the notify files every {POLL_EVERY:?}");
                    self.refused_at = Some(Instant::now());
                }
            }
        }
        let Some(inotify) = &self.inotify else { return };
        for store in self.stores.iter_mut().filter(|store| store.watch.is_none()) {
            store.watch = store.core.upgrade().and_then(|core| inotify.watch(&core.paths.notify_file).ok());
        }
    }
}

/// So often everything is looked at, whatever was seen: inotify does not see everything on every file system.
const SCAN_EVERY: Duration = Duration::from_millis(250);

/// So often a bell that cannot be watched is looked at.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// So long after a refusal another instance is asked for.
const RETRY_AFTER: Duration = Duration::from_secs(5);
