//! The thread that listens for the bells of all file stores of this process: there is one inotify instance for all of
//! them, for a user may have few. It begins with the first watcher and ends after the last.
//!
//! inotify only makes it fast. The bells are looked at every [`AROUND`] in any case, and every [`BLIND`] while some bell
//! cannot be watched: no instance is left, or the platform has none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use self::os::{Eyes, Watch};
use super::{core::Core, follow::Follower};

/// Has the store's watchers told of what others do, from now on, for as long as there are any.
pub(super) fn attend(core: &Arc<Core>) {
    let mut ear = ear();
    if ear.posts.iter().any(|post| Weak::ptr_eq(&post.core, &Arc::downgrade(core))) {
        return;
    }
    let follower = Arc::new(Mutex::new(Follower::new(core)));
    ear.posts.push(Post { core: Arc::downgrade(core), follower, watch: None });
    ear.arm();
    if !ear.runs {
        let started = thread::Builder::new().name("events-ear".into()).spawn(listen);
        ear.runs = started.is_ok();
        if let Err(error) = started {
            tracing::error!(%error, "cannot listen for the events of other processes");
        }
    }
}

static EAR: Mutex<Ear> = Mutex::new(Ear { posts: Vec::new(), eyes: None, tried: None, runs: false });

struct Ear {
    posts: Vec<Post>,
    eyes: Option<Arc<Eyes>>,
    /// When an instance was asked for last, and refused.
    tried: Option<Instant>,
    /// Whether the thread runs.
    runs: bool,
}

/// One store that is listened for.
struct Post {
    core: Weak<Core>,
    follower: Arc<Mutex<Follower>>,
    /// Absent while its bell cannot be watched.
    watch: Option<Watch>,
}

fn ear() -> MutexGuard<'static, Ear> {
    EAR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen() {
    let mut around = Instant::now();
    loop {
        let Some((eyes, sees_all)) = prepare() else { return };
        let left = AROUND.saturating_sub(around.elapsed());
        let mut seen = match &eyes {
            Some(eyes) => eyes.wait(if sees_all { left } else { left.min(BLIND) }),
            None => {
                thread::sleep(left.min(BLIND));
                Seen::default()
            }
        };
        if around.elapsed() >= AROUND {
            around = Instant::now();
            seen.all = true;
        }
        look(&seen);
    }
}

/// Drops the posts that nobody needs; `None` ends the thread.
fn prepare() -> Option<(Option<Arc<Eyes>>, bool)> {
    let mut ear = ear();
    let (kept, left): (Vec<_>, Vec<_>) = std::mem::take(&mut ear.posts)
        .into_iter()
        .partition(|post| post.core.upgrade().is_some_and(|core| core.is_watched()));
    ear.posts = kept;
    for watch in left.iter().filter_map(|post| post.watch) {
        // Stores on one file share a watch.
        if let Some(eyes) = ear.eyes.as_ref().filter(|_| ear.posts.iter().all(|post| post.watch != Some(watch))) {
            eyes.forget(watch);
        }
    }
    if ear.posts.is_empty() {
        ear.eyes = None;
        ear.runs = false;
        return None;
    }
    Some((ear.eyes.clone(), ear.posts.iter().all(|post| post.watch.is_some())))
}

/// What has happened to which bells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    rung: Vec<Watch>,
    /// Removed, moved or replaced.
    changed: Vec<Watch>,
    /// Everything has to be looked at.
    all: bool,
}

fn look(seen: &Seen) {
    let concerned = |watch: &Option<Watch>| match watch {
        Some(watch) => seen.all || seen.rung.contains(watch) || seen.changed.contains(watch),
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
        let is_changed = watch.is_some_and(|watch| seen.changed.contains(&watch));
        let is_other = (seen.all || is_changed) && locked.look_around();
        drop(locked);
        if is_other || is_changed {
            renewed.push(follower);
        }
    }
    if renewed.is_empty() && !seen.all {
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
    /// Watches the bells that are not watched yet.
    fn arm(&mut self) {
        if self.eyes.is_none() && self.tried.is_none_or(|tried| tried.elapsed() > AGAIN) {
            match Eyes::open() {
                Ok(eyes) => self.eyes = Some(Arc::new(eyes)),
                Err(error) => {
                    tracing::info!(%error, "bells cannot be watched; looking at them every {BLIND:?}");
                    self.tried = Some(Instant::now());
                }
            }
        }
        let Some(eyes) = &self.eyes else { return };
        for post in self.posts.iter_mut().filter(|post| post.watch.is_none()) {
            post.watch = post.core.upgrade().and_then(|core| eyes.watch(&core.ground.bell).ok());
        }
    }
}

#[cfg(target_os = "linux")]
mod os {
    use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::Path, time::Duration};

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    };

    use super::Seen;

    pub(super) type Watch = i32;

    /// An inotify instance.
    pub(super) struct Eyes(OwnedFd);

    impl Eyes {
        pub(super) fn open() -> io::Result<Self> {
            Ok(Self(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?))
        }

        pub(super) fn watch(&self, bell: &Path) -> io::Result<Watch> {
            // A file that is removed while it is open has its attributes changed: it has no name any more.
            let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            Ok(inotify::add_watch(&self.0, bell, flags)?)
        }

        pub(super) fn forget(&self, watch: Watch) {
            // It may be gone with its file.
            _ = inotify::remove_watch(&self.0, watch);
        }

        /// Waits until something is seen, at most for so long.
        pub(super) fn wait(&self, most: Duration) -> Seen {
            let mut seen = Seen::default();
            let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
            // An interrupted wait is a short one.
            _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&most));
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(&self.0, &mut buffer);
            while let Ok(event) = reader.next() {
                let flags = event.events();
                if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                    seen.all = true;
                } else if flags == ReadFlags::MODIFY {
                    seen.rung.push(event.wd());
                } else {
                    seen.changed.push(event.wd());
                }
            }
            seen
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    use std::{io, path::Path, time::Duration};

    use super::Seen;

    pub(super) type Watch = i32;

    /// Nothing watches files here.
    pub(super) enum Eyes {}

    impl Eyes {
        pub(super) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn watch(&self, _: &Path) -> io::Result<Watch> {
            match *self {}
        }

        pub(super) fn forget(&self, _: Watch) {
            match *self {}
        }

        pub(super) fn wait(&self, _: Duration) -> Seen {
            match *self {}
        }
    }
}

/// So often everything is looked at, whatever was seen: inotify does not see everything on every file system.
const AROUND: Duration = Duration::from_millis(250);

/// So often a bell that cannot be watched is looked at.
const BLIND: Duration = Duration::from_millis(10);

/// So long after a refusal another instance is asked for.
const AGAIN: Duration = Duration::from_secs(5);

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use super::*;

    #[test]
    fn events_that_the_system_dropped_have_everything_looked_at() {
        let most: u32 =
            std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        let dir = std::env::temp_dir().join(format!("tower-events-ear-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let bells = ["a", "b"].map(|name| dir.join(name));
        let files = bells.each_ref().map(|bell| File::create(bell).unwrap());
        let eyes = Eyes::open().unwrap();
        let watches = bells.each_ref().map(|bell| eyes.watch(bell).unwrap());
        // Equal events in a row are one, so two files take turns.
        let ring = |times: u32| {
            (0..times).for_each(|n| files[n as usize % 2].write_all_at(b"x", 0).unwrap());
        };
        ring(4);
        let seen = eyes.wait(Duration::ZERO);
        assert_eq!(seen, Seen { rung: [watches, watches].concat(), ..Seen::default() });
        ring(most + 10);
        assert!(eyes.wait(Duration::ZERO).all);
        ring(1);
        assert_eq!(eyes.wait(Duration::ZERO), Seen { rung: vec![watches[0]], ..Seen::default() });
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
