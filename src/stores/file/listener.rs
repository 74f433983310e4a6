//! Listens to the notify files of all file stores in this process, with one inotify instance: their number per user is
//! limited.
//!
//! Watchers on a tokio runtime wait for the instance themselves ([`EventWaiter`]); whichever is woken first notifies
//! the watchers of all stores. Waiting on a separate thread would add a thread switch to each event, which would take
//! longer than everything else. A thread still runs while there are watchers, for what inotify cannot do: it reads all
//! notify files every [`SCAN_EVERY`], and those that cannot be watched (no instance is left, or the platform has no
//! inotify) every [`POLL_EVERY`]. While no watcher is on a runtime, this thread waits for the instance.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use super::{
    core::Core,
    inotify::{EventWaiter, FileEvents, Inotify, WatchId},
    notify_reader::NotifyReader,
};

/// From now on notifies the store's watchers of changes by others, as long as it has any.
pub(super) fn register(core: &Arc<Core>) -> Registration {
    let mut listener = lock();
    listener.add(core);
    let event_waiter = listener.inotify.as_ref().and_then(|inotify| inotify.event_waiter());
    listener.event_waiters += usize::from(event_waiter.is_some());
    Registration(event_waiter)
}

/// A watcher's registration. On a runtime, it lets the watcher wait for notifications itself.
pub(super) struct Registration(Option<EventWaiter>);

impl Registration {
    /// Notifies all watchers of new notifications. Ready if there were any; else the next one wakes `cx`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(event_waiter) = &mut self.0 else { return Poll::Pending };
        match event_waiter.poll(cx) {
            Poll::Ready(Ok(events)) => {
                dispatch(&events);
                return Poll::Ready(());
            }
            // Its runtime was dropped: from now on the thread waits.
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

static LISTENER: Mutex<Listener> =
    Mutex::new(Listener { stores: Vec::new(), inotify: None, refused_at: None, thread_runs: false, event_waiters: 0 });

struct Listener {
    stores: Vec<ListenedStore>,
    inotify: Option<Arc<Inotify>>,
    /// When the system last refused an instance.
    refused_at: Option<Instant>,
    thread_runs: bool,
    /// How many watchers wait for the instance themselves.
    event_waiters: usize,
}

/// A store with watchers.
struct ListenedStore {
    core: Weak<Core>,
    reader: Arc<Mutex<NotifyReader>>,
    /// `None` while its notify file is not watched.
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

/// Removes stores without watchers. Returns the instance to wait for, if watchers do not, and the timeout; `None` ends
/// the thread.
fn next_wait() -> Option<(Option<Arc<Inotify>>, Duration)> {
    let mut listener = lock();
    let (watched, unused): (Vec<_>, Vec<_>) = std::mem::take(&mut listener.stores)
        .into_iter()
        .partition(|store| store.core.upgrade().is_some_and(|core| core.watchers.count() > 0));
    listener.stores = watched;
    for watch in unused.iter().filter_map(|store| store.watch) {
        // Stores on the same file share a watch.
        if let Some(inotify) =
            listener.inotify.as_ref().filter(|_| listener.stores.iter().all(|store| store.watch != Some(watch)))
        {
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

/// Reads the notify files that may have changed, and watches those that are new.
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
                tracing::error!(%error, "cannot start the thread that listens for events of other processes");
            }
        }
    }

    /// Watches the notify files that are not watched yet.
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

/// How often all notify files are read: inotify does not report all changes on all file systems.
const SCAN_EVERY: Duration = Duration::from_millis(250);

/// How often a notify file that cannot be watched is read.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// How long after a refusal another instance is requested.
const RETRY_AFTER: Duration = Duration::from_secs(5);
