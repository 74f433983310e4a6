//! Who listens for the bells of all file stores of this process: there is one inotify instance for all of them, for a user
//! may have few.
//!
//! A watcher on a tokio runtime waits for it by itself ([`EventWaiter`]), and whoever is woken first tells the watchers of all
//! stores. A thread for it would be a change of threads more for each event, which takes longer than all the rest. There is
//! one in any case, from the first watcher to the last, for what inotify cannot do: the bells are looked at every
//! [`AROUND`], and every [`BLIND`] while some bell cannot be watched, because no instance is left or the platform has none.
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
    follow::Follower,
};

/// Has the store's watchers told of what others do, from now on, for as long as there are any.
pub(super) fn attend(core: &Arc<Core>) -> Listener {
    let mut ear = ear();
    ear.add(core);
    let event_waiter = ear.inotify.as_ref().and_then(|inotify| inotify.event_waiter());
    ear.event_waiters += usize::from(event_waiter.is_some());
    Listener(event_waiter)
}

/// One watcher's way to hear of rings by itself, if it has one.
pub(super) struct Listener(Option<EventWaiter>);

impl Listener {
    /// Tells all watchers of what was rung; ready when there was something, else `cx` is woken by the next ring.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(event_waiter) = &mut self.0 else { return Poll::Pending };
        match event_waiter.poll(cx) {
            Poll::Ready(Ok(events)) => {
                look(&events);
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
            ear().event_waiters -= 1;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

static EAR: Mutex<Ear> = Mutex::new(Ear { posts: Vec::new(), inotify: None, tried: None, runs: false, event_waiters: 0 });

struct Ear {
    posts: Vec<Post>,
    inotify: Option<Arc<Inotify>>,
    /// When an instance was asked for last, and refused.
    tried: Option<Instant>,
    /// Whether the thread runs.
    runs: bool,
    /// How many watchers wait for the instance by themselves.
    event_waiters: usize,
}

/// One store that is listened for.
struct Post {
    core: Weak<Core>,
    follower: Arc<Mutex<Follower>>,
    /// Absent while its bell cannot be watched.
    watch: Option<WatchId>,
}

fn ear() -> MutexGuard<'static, Ear> {
    EAR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run() {
    let mut around = Instant::now();
    loop {
        let Some((inotify, most)) = prepare() else { return };
        let most = most.min(AROUND.saturating_sub(around.elapsed()));
        let mut events = match &inotify {
            Some(inotify) => {
                inotify.wait(most);
                inotify.read_events()
            }
            None => {
                thread::sleep(most);
                FileEvents::default()
            }
        };
        if around.elapsed() >= AROUND {
            around = Instant::now();
            events.check_all = true;
        }
        look(&events);
    }
}

/// Drops the posts that nobody needs. Says what to wait for, if not only for the time, and how long; `None` ends the thread.
fn prepare() -> Option<(Option<Arc<Inotify>>, Duration)> {
    let mut ear = ear();
    let (kept, left): (Vec<_>, Vec<_>) = std::mem::take(&mut ear.posts)
        .into_iter()
        .partition(|post| post.core.upgrade().is_some_and(|core| core.is_watched()));
    ear.posts = kept;
    for watch in left.iter().filter_map(|post| post.watch) {
        // Stores on one file share a watch.
        if let Some(inotify) = ear.inotify.as_ref().filter(|_| ear.posts.iter().all(|post| post.watch != Some(watch))) {
            inotify.unwatch(watch);
        }
    }
    if ear.posts.is_empty() {
        ear.inotify = None;
        ear.runs = false;
        return None;
    }
    let sees_all = ear.posts.iter().all(|post| post.watch.is_some());
    let inotify = ear.inotify.clone().filter(|_| ear.event_waiters == 0);
    Some((inotify, if sees_all { AROUND } else { BLIND }))
}

fn look(events: &FileEvents) {
    let concerned = |watch: &Option<WatchId>| match watch {
        Some(watch) => events.check_all || events.modified.contains(watch) || events.replaced.contains(watch),
        None => true,
    };
    let posts: Vec<_> = {
        let ear = ear();
        let posts = ear.posts.iter().filter(|post| concerned(&post.watch));
        posts.map(|post| (Arc::clone(&post.follower), post.watch)).collect()
    };
    let mut renewed = Vec::new();
    for (follower, watch) in posts {
        let mut locked = follower.lock().unwrap_or_else(PoisonError::into_inner);
        locked.look();
        let is_changed = watch.is_some_and(|watch| events.replaced.contains(&watch));
        let is_other = (events.check_all || is_changed) && locked.look_around();
        drop(locked);
        if is_other || is_changed {
            renewed.push(follower);
        }
    }
    if renewed.is_empty() && !events.check_all {
        return;
    }
    let mut ear = ear();
    for post in &mut ear.posts {
        if renewed.iter().any(|follower| Arc::ptr_eq(follower, &post.follower)) {
            post.watch = None;
        }
    }
    ear.arm();
}

impl Ear {
    /// Listens for this store from now on.
    fn add(&mut self, core: &Arc<Core>) {
        if self.posts.iter().any(|post| Weak::ptr_eq(&post.core, &Arc::downgrade(core))) {
            return;
        }
        let follower = Arc::new(Mutex::new(Follower::new(core)));
        self.posts.push(Post { core: Arc::downgrade(core), follower, watch: None });
        self.arm();
        if !self.runs {
            let started = thread::Builder::new().name("events-ear".into()).spawn(run);
            self.runs = started.is_ok();
            if let Err(error) = started {
                tracing::error!(%error, "cannot listen for the events of other processes");
            }
        }
    }

    /// Watches the bells that are not watched yet.
    fn arm(&mut self) {
        if self.inotify.is_none() && self.tried.is_none_or(|tried| tried.elapsed() > AGAIN) {
            match Inotify::open() {
                Ok(inotify) => self.inotify = Some(Arc::new(inotify)),
                Err(error) => {
                    tracing::info!(%error, "bells cannot be watched; looking at them every {BLIND:?}");
                    self.tried = Some(Instant::now());
                }
            }
        }
        let Some(inotify) = &self.inotify else { return };
        for post in self.posts.iter_mut().filter(|post| post.watch.is_none()) {
            post.watch = post.core.upgrade().and_then(|core| inotify.watch(&core.ground.notify_file).ok());
        }
    }
}

/// So often everything is looked at, whatever was seen: inotify does not see everything on every file system.
const AROUND: Duration = Duration::from_millis(250);

/// So often a bell that cannot be watched is looked at.
const BLIND: Duration = Duration::from_millis(10);

/// So long after a refusal another instance is asked for.
const AGAIN: Duration = Duration::from_secs(5);
