//! Watches notify files with inotify, where the platform has it.

pub(super) use self::os::{EventWaiter, Inotify, WatchId};

/// Which watched files have changed, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FileEvents {
    pub(super) modified: Vec<WatchId>,
    /// Removed, moved or replaced.
    pub(super) replaced: Vec<WatchId>,
    /// Any of the files may have changed: events were dropped.
    pub(super) check_all: bool,
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

    use ::inotify::{EventStream, Inotify as Instance};
    use futures_core::Stream as _;
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    };
    use tokio::runtime::Handle;

    use super::FileEvents;

    pub(in crate::stores::file) type WatchId = i32;

    pub(in crate::stores::file) struct Inotify(OwnedFd);

    impl Inotify {
        pub(in crate::stores::file) fn open() -> io::Result<Self> {
            Ok(Self(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?))
        }

        pub(in crate::stores::file) fn watch(&self, path: &Path) -> io::Result<WatchId> {
            // A file that is removed while it is open only reports changed attributes: those of its link count.
            let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            Ok(inotify::add_watch(&self.0, path, flags)?)
        }

        pub(in crate::stores::file) fn unwatch(&self, watch: WatchId) {
            // Fails if the watch has ended with its file.
            _ = inotify::remove_watch(&self.0, watch);
        }

        /// Waits for events until the timeout.
        pub(in crate::stores::file) fn wait(&self, timeout: Duration) {
            let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
            // May be interrupted, which only shortens it.
            _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout));
        }

        /// Reads new events. Each event is read by one caller only.
        pub(in crate::stores::file) fn read_events(&self) -> FileEvents {
            let mut events = FileEvents::default();
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(&self.0, &mut buffer);
            while let Ok(event) = reader.next() {
                events.record(event.wd(), event.events());
            }
            events
        }

        /// Lets a task wait for events itself. `None` outside a runtime.
        pub(in crate::stores::file) fn event_waiter(&self) -> Option<EventWaiter> {
            Handle::try_current().ok()?;
            // Duplicates the descriptor of the instance, since each runtime registers its own.
            let shared = Instance::from(self.0.try_clone().ok()?);
            shared.into_event_stream([0; 1024]).ok().map(EventWaiter)
        }
    }

    impl FileEvents {
        fn record(&mut self, watch: WatchId, flags: ReadFlags) {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.check_all = true;
            } else if flags == ReadFlags::MODIFY {
                self.modified.push(watch);
            } else {
                self.replaced.push(watch);
            }
        }
    }

    pub(in crate::stores::file) struct EventWaiter(EventStream<[u8; 1024]>);

    impl EventWaiter {
        /// Reads new events; if there are none, `cx` is woken when there are. Each event is read by one caller only.
        /// Fails if the runtime has been dropped.
        pub(in crate::stores::file) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<FileEvents>> {
            let mut events = FileEvents::default();
            while let Poll::Ready(event) = Pin::new(&mut self.0).poll_next(cx) {
                let event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
                let flags = ReadFlags::from_bits_retain(event.mask.bits());
                events.record(event.wd.get_watch_descriptor_id(), flags);
            }
            if events == FileEvents::default() { Poll::Pending } else { Poll::Ready(Ok(events)) }
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

    use super::FileEvents;

    pub(in crate::stores::file) type WatchId = i32;

    /// Does not exist on this platform.
    pub(in crate::stores::file) enum Inotify {}

    impl Inotify {
        pub(in crate::stores::file) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in crate::stores::file) fn watch(&self, _: &Path) -> io::Result<WatchId> {
            match *self {}
        }

        pub(in crate::stores::file) fn unwatch(&self, _: WatchId) {
            match *self {}
        }

        pub(in crate::stores::file) fn wait(&self, _: Duration) {
            match *self {}
        }

        pub(in crate::stores::file) fn read_events(&self) -> FileEvents {
            match *self {}
        }

        pub(in crate::stores::file) fn event_waiter(&self) -> Option<EventWaiter> {
            match *self {}
        }
    }

    pub(in crate::stores::file) enum EventWaiter {}

    impl EventWaiter {
        pub(in crate::stores::file) fn poll(&mut self, _: &mut Context<'_>) -> Poll<io::Result<FileEvents>> {
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

    /// Two watched files in a directory.
    struct WatchedFiles {
        dir: PathBuf,
        files: [File; 2],
        inotify: Inotify,
        watches: [WatchId; 2],
    }

    impl WatchedFiles {
        fn new(name: &str) -> io::Result<Self> {
            let dir = std::env::temp_dir().join(format!("tower-events-inotify-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir)?;
            let (a, b) = (dir.join("a"), dir.join("b"));
            let (files, inotify) = ([File::create(&a)?, File::create(&b)?], Inotify::open()?);
            let watches = [inotify.watch(&a)?, inotify.watch(&b)?];
            Ok(Self { dir, files, inotify, watches })
        }

        /// Alternates between the files, since inotify merges equal consecutive events.
        fn modify(&self, times: usize) -> io::Result<()> {
            self.files.iter().cycle().take(times).try_for_each(|file| file.write_all_at(b"x", 0))
        }

        fn first(&self) -> FileEvents {
            FileEvents { modified: vec![self.watches[0]], ..FileEvents::default() }
        }
    }

    impl Drop for WatchedFiles {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn after_an_overflow_all_files_are_checked() {
        let most: usize =
            std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        let watched = WatchedFiles::new("overflow").unwrap();
        watched.modify(4).unwrap();
        assert_eq!(
            watched.inotify.read_events(),
            FileEvents { modified: [watched.watches, watched.watches].concat(), ..FileEvents::default() }
        );
        watched.modify(most + 10).unwrap();
        assert!(watched.inotify.read_events().check_all);
        watched.modify(1).unwrap();
        assert_eq!(watched.inotify.read_events(), watched.first());
    }

    #[tokio::test]
    async fn a_task_is_woken_by_each_write_and_each_is_read_once() {
        let watched = WatchedFiles::new("task").unwrap();
        let mut event_waiters = [watched.inotify.event_waiter().unwrap(), watched.inotify.event_waiter().unwrap()];
        for _ in 0..3 {
            // Waits before the write.
            let mut events = pin!(poll_fn(|cx| event_waiters[0].poll(cx)));
            assert!(events.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            watched.modify(1).unwrap();
            assert_eq!(events.await.unwrap(), watched.first());
            assert!(poll_fn(|cx| Poll::Ready(event_waiters[1].poll(cx))).await.is_pending());
            assert_eq!(watched.inotify.read_events(), FileEvents::default());
        }
    }

    #[test]
    fn a_task_needs_a_runtime_to_wait() {
        let watched = WatchedFiles::new("runtime").unwrap();
        assert!(watched.inotify.event_waiter().is_none());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut event_waiter = runtime.block_on(async { watched.inotify.event_waiter().unwrap() });
        drop(runtime);
        let polled = event_waiter.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
    }
}
