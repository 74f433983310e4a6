//! Captures what is logged on this thread, as text.

use std::{
    fmt::{Debug, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

pub(crate) struct Logs {
    lines: Arc<Mutex<String>>,
    seen: Arc<AtomicUsize>,
    _guard: DefaultGuard,
}

impl Logs {
    /// Captures until dropped.
    pub(crate) fn of_this_thread() -> Self {
        let lines = Arc::new(Mutex::new(String::new()));
        let seen = Arc::new(AtomicUsize::new(0));
        let listener = Listener { lines: Arc::clone(&lines), seen: Arc::clone(&seen) };
        Self { lines, seen, _guard: tracing::subscriber::set_default(listener) }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().expect("no panic").clone()
    }

    /// How many events an operator sees, at level `INFO`.
    #[allow(dead_code, reason = "not every test counts them")]
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }
}

struct Listener {
    lines: Arc<Mutex<String>>,
    seen: Arc<AtomicUsize>,
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        _ = writeln!(self.0, "{field}={value:?}");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Line(&mut self.lines.lock().expect("no panic")));
        if *event.metadata().level() <= Level::INFO {
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
