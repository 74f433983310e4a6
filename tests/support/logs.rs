//! Captures what is logged on this thread, as text.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

pub(crate) struct Logs {
    lines: Arc<Mutex<String>>,
    _guard: DefaultGuard,
}

impl Logs {
    /// Captures until dropped.
    pub(crate) fn of_this_thread() -> Self {
        let lines = Arc::new(Mutex::new(String::new()));
        Self { lines: Arc::clone(&lines), _guard: tracing::subscriber::set_default(Listener(lines)) }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().expect("no panic").clone()
    }
}

struct Listener(Arc<Mutex<String>>);

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
        event.record(&mut Line(&mut self.0.lock().expect("no panic")));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
