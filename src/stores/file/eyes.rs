//! What sees that bells were rung: inotify, where there is one.

pub(super) use self::os::{Eyes, Lookout, Watch};

/// What has happened to which bells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) rung: Vec<Watch>,
    /// Removed, moved or replaced.
    pub(super) changed: Vec<Watch>,
    /// Everything has to be looked at.
    pub(super) all: bool,
}

#[cfg(target_os = "linux")]
mod os {
    use std::{
        io,
        mem::MaybeUninit,
        os::fd::OwnedFd,
        path::Path,
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use ::inotify::{EventStream, Inotify};
    use futures_core::Stream as _;
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    };
    use tokio::runtime::Handle;

    use super::Seen;

    pub(in crate::stores::file) type Watch = i32;

    /// An inotify instance.
    pub(in crate::stores::file) struct Eyes(OwnedFd);

    impl Eyes {
        pub(in crate::stores::file) fn open() -> io::Result<Self> {
            Ok(Self(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?))
        }

        pub(in crate::stores::file) fn watch(&self, notify_file: &Path) -> io::Result<Watch> {
            // A file that is removed while it is open has its attributes changed: it has no name any more.
            let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            Ok(inotify::add_watch(&self.0, notify_file, flags)?)
        }

        pub(in crate::stores::file) fn forget(&self, watch: Watch) {
            // It may be gone with its file.
            _ = inotify::remove_watch(&self.0, watch);
        }

        /// Waits until something is to be seen, at most for so long.
        pub(in crate::stores::file) fn wait(&self, most: Duration) {
            let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
            // An interrupted wait is a short one.
            _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&most));
        }

        /// What was not seen yet. Of several who ask, one gets it.
        pub(in crate::stores::file) fn see(&self) -> Seen {
            let mut seen = Seen::default();
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(&self.0, &mut buffer);
            while let Ok(event) = reader.next() {
                seen.note(event.wd(), event.events());
            }
            seen
        }

        /// For a task that waits by itself; none when this is no thread of a runtime.
        pub(in crate::stores::file) fn lookout(&self) -> Option<Lookout> {
            Handle::try_current().ok()?;
            // The same instance once more: each runtime registers a descriptor of its own.
            let shared = Inotify::from(self.0.try_clone().ok()?);
            shared.into_event_stream([0; 1024]).ok().map(Lookout)
        }
    }

    impl Seen {
        fn note(&mut self, watch: Watch, flags: ReadFlags) {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.all = true;
            } else if flags == ReadFlags::MODIFY {
                self.rung.push(watch);
            } else {
                self.changed.push(watch);
            }
        }
    }

    /// One task's view of an instance.
    pub(in crate::stores::file) struct Lookout(EventStream<[u8; 1024]>);

    impl Lookout {
        /// What was not seen yet; when that is nothing, `cx` is woken once there is something. Of several who ask, one gets
        /// it. Fails when the runtime is gone.
        pub(in crate::stores::file) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Seen>> {
            let mut seen = Seen::default();
            while let Poll::Ready(event) = Pin::new(&mut self.0).poll_next(cx) {
                let event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
                let flags = ReadFlags::from_bits_retain(event.mask.bits());
                seen.note(event.wd.get_watch_descriptor_id(), flags);
            }
            if seen == Seen::default() { Poll::Pending } else { Poll::Ready(Ok(seen)) }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    use std::{
        io,
        path::Path,
        task::{Context, Poll},
        time::Duration,
    };

    use super::Seen;

    pub(in crate::stores::file) type Watch = i32;

    /// Nothing watches files here.
    pub(in crate::stores::file) enum Eyes {}

    impl Eyes {
        pub(in crate::stores::file) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in crate::stores::file) fn watch(&self, _: &Path) -> io::Result<Watch> {
            match *self {}
        }

        pub(in crate::stores::file) fn forget(&self, _: Watch) {
            match *self {}
        }

        pub(in crate::stores::file) fn wait(&self, _: Duration) {
            match *self {}
        }

        pub(in crate::stores::file) fn see(&self) -> Seen {
            match *self {}
        }

        pub(in crate::stores::file) fn lookout(&self) -> Option<Lookout> {
            match *self {}
        }
    }

    pub(in crate::stores::file) enum Lookout {}

    impl Lookout {
        pub(in crate::stores::file) fn poll(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Seen>> {
            match *self {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        fs::File,
        future::{Future as _, poll_fn},
        io,
        os::unix::fs::FileExt as _,
        path::PathBuf,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// Two bells that are watched, in a directory.
    struct Tower {
        dir: PathBuf,
        bells: [File; 2],
        eyes: Eyes,
        watches: [Watch; 2],
    }

    impl Tower {
        fn new(name: &str) -> io::Result<Self> {
            let dir = std::env::temp_dir().join(format!("tower-events-eyes-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir)?;
            let (a, b) = (dir.join("a"), dir.join("b"));
            let (bells, eyes) = ([File::create(&a)?, File::create(&b)?], Eyes::open()?);
            let watches = [eyes.watch(&a)?, eyes.watch(&b)?];
            Ok(Self { dir, bells, eyes, watches })
        }

        /// Equal events in a row are one, so the two take turns.
        fn ring(&self, times: usize) -> io::Result<()> {
            self.bells.iter().cycle().take(times).try_for_each(|notify_file| notify_file.write_all_at(b"x", 0))
        }

        fn first(&self) -> Seen {
            Seen { rung: vec![self.watches[0]], ..Seen::default() }
        }
    }

    impl Drop for Tower {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn events_that_the_system_dropped_have_everything_looked_at() {
        let most: usize =
            std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        let tower = Tower::new("overflow").unwrap();
        tower.ring(4).unwrap();
        assert_eq!(tower.eyes.see(), Seen { rung: [tower.watches, tower.watches].concat(), ..Seen::default() });
        tower.ring(most + 10).unwrap();
        assert!(tower.eyes.see().all);
        tower.ring(1).unwrap();
        assert_eq!(tower.eyes.see(), tower.first());
    }

    #[tokio::test]
    async fn a_task_is_woken_by_each_ring_and_each_is_seen_once() {
        let tower = Tower::new("task").unwrap();
        let mut lookouts = [tower.eyes.lookout().unwrap(), tower.eyes.lookout().unwrap()];
        for _ in 0..3 {
            // Waits before it is rung for.
            let mut seen = pin!(poll_fn(|cx| lookouts[0].poll(cx)));
            assert!(seen.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            tower.ring(1).unwrap();
            assert_eq!(seen.await.unwrap(), tower.first());
            assert!(poll_fn(|cx| Poll::Ready(lookouts[1].poll(cx))).await.is_pending());
            assert_eq!(tower.eyes.see(), Seen::default());
        }
    }

    #[test]
    fn who_is_not_on_a_runtime_or_outlives_it_has_no_lookout() {
        let tower = Tower::new("runtime").unwrap();
        assert!(tower.eyes.lookout().is_none());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut lookout = runtime.block_on(async { tower.eyes.lookout().unwrap() });
        drop(runtime);
        let polled = lookout.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
    }
}
