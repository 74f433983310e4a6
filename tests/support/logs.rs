//! Captures what is logged on this thread, as text.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

pub(crate) struct Logs {
    #[allow(dead_code, reason = "not every test reads them")]
    lines: Arc<Mutex<String>>,
    seen: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Logs {
    /// Captures until dropped.
    pub(crate) fn of_this_thread() -> Self {
        let lines = Arc::new(Mutex::new(String::new()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = Listener { lines: Arc::clone(&lines), seen: Arc::clone(&seen) };
        Self { lines, seen, _guard: tracing::subscriber::set_default(listener) }
    }

    #[allow(dead_code, reason = "not every test reads them")]
    pub(crate) fn text(&self) -> String {
        self.lines.lock().expect("no panic").clone()
    }

    /// What an operator sees of this crate, at level `INFO`: one text per event.
    #[allow(dead_code, reason = "not every test counts them")]
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

struct Listener {
    lines: Arc<Mutex<String>>,
    seen: Arc<Mutex<Vec<String>>>,
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
        let mut text = String::new();
        event.record(&mut Line(&mut text));
        self.lines.lock().expect("no panic").push_str(&text);
        if *event.metadata().level() <= Level::INFO && event.metadata().target().starts_with("tower_events") {
            self.seen.lock().expect("no panic").push(text);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
