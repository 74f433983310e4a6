//! Events as an application publishes them: plain data, independent of how they are stored or sent.

mod data;

use std::{fmt, sync::Arc};

use serde::Serialize;

pub use self::data::Data;
use crate::error::InvalidEvent;

/// The latest time of an event, in Unix milliseconds: the last that JavaScript's `Date` can hold.
pub const MAX_TIME: u64 = 8_640_000_000_000_000;

/// An event to publish: one JSON value, and optionally a name, a time and an idempotency key.
///
/// ```
/// use tower_events::Event;
///
/// let plain = Event::text("hello");
/// let full = Event::json(&serde_json::json!({"user": "ada"}))?
///     .named("message")?
///     .at(1_732_094_400_123)?
///     .keyed("order-17")?;
/// assert_eq!(full.name().map(|name| name.as_str()), Some("message"));
/// # Ok::<(), tower_events::InvalidEvent>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    data: Data,
    name: Option<EventName>,
    time: Option<u64>,
    key: Option<EventKey>,
}

impl Event {
    /// An event with this data, without a name or key, and with the time of its append.
    #[must_use]
    pub fn new(data: Data) -> Self {
        Self { data, name: None, time: None, key: None }
    }

    /// An event whose data is a text (in JSON: a string).
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Data::text(text))
    }

    /// An event whose data is `value` as compact JSON. A value that serialises to a string becomes a text.
    ///
    /// # Errors
    /// [`InvalidEvent::Json`] when `value` cannot be serialised.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidEvent> {
        Data::json(value).map(Self::new)
    }

    /// Sets the name, which is the event type for `EventSource.addEventListener`.
    ///
    /// # Errors
    /// As [`EventName::new`], and [`InvalidEvent::ReservedName`] for `error` and `open`: an `EventSource` fires events of
    /// these names itself, so a page would mistake yours for a connection failure.
    pub fn named(self, name: impl AsRef<str>) -> Result<Self, InvalidEvent> {
        // Stores may already contain such events, which must stay readable: so `EventName` allows these names, as well as
        // those that this crate stores itself.
        if matches!(name.as_ref(), "error" | "open" | RUN_START | RUN_END) {
            return Err(InvalidEvent::ReservedName);
        }
        Ok(Self { name: Some(EventName::new(name)?), ..self })
    }

    /// An event of this crate's own.
    pub(crate) fn own(name: &'static str, data: Data) -> Self {
        Self { name: Some(EventName(name.into())), ..Self::new(data) }
    }

    /// Sets the time explicitly, in Unix milliseconds, instead of the time of the append.
    ///
    /// # Errors
    /// [`InvalidEvent::Time`] above [`MAX_TIME`].
    pub fn at(self, unix_ms: u64) -> Result<Self, InvalidEvent> {
        if unix_ms > MAX_TIME {
            return Err(InvalidEvent::Time);
        }
        Ok(Self { time: Some(unix_ms), ..self })
    }

    /// Sets the idempotency key, which makes repeating an append harmless: within the store's key window, an event with the same
    /// key is appended to a channel only once.
    ///
    /// # Errors
    /// As [`EventKey::new`].
    pub fn keyed(self, key: impl AsRef<str>) -> Result<Self, InvalidEvent> {
        Ok(Self { key: Some(EventKey::new(key)?), ..self })
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The name, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&EventName> {
        self.name.as_ref()
    }

    /// The explicit time in Unix milliseconds, if there is one.
    #[must_use]
    pub fn time(&self) -> Option<u64> {
        self.time
    }

    /// The idempotency key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&EventKey> {
        self.key.as_ref()
    }

    /// The data and the name.
    #[must_use]
    pub fn into_parts(self) -> (Data, Option<EventName>) {
        (self.data, self.name)
    }
}

/// The name of the first event of a [run](crate::runs).
pub(crate) const RUN_START: &str = "stream-run-start";

/// The name of the last event of a [run](crate::runs).
pub(crate) const RUN_END: &str = "stream-run-end";

/// Validated name of an event: 1 to 255 bytes of UTF-8 without control characters, not beginning with `stream-`. Of the reserved
/// names only `stream-run-start` and `stream-run-end` are accepted, because stores contain them; [`Event::named`] refuses
/// these, too.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventName(Arc<str>);

impl EventName {
    /// Validates `name`.
    ///
    /// # Errors
    /// [`InvalidEvent::Name`] or [`InvalidEvent::ReservedName`].
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidEvent> {
        let name = name.as_ref();
        if name.starts_with("stream-") && !matches!(name, RUN_START | RUN_END) {
            return Err(InvalidEvent::ReservedName);
        }
        bounded(name).map(Self).ok_or(InvalidEvent::Name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Validated idempotency key: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventKey(Arc<str>);

impl EventKey {
    /// Validates `key`.
    ///
    /// # Errors
    /// [`InvalidEvent::Key`].
    pub fn new(key: impl AsRef<str>) -> Result<Self, InvalidEvent> {
        bounded(key.as_ref()).map(Self).ok_or(InvalidEvent::Key)
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn bounded(text: &str) -> Option<Arc<str>> {
    let good = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    good.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_are_validated() {
        for bad in ["", "a\nb", "a\0", &"x".repeat(256)] {
            assert!(matches!(EventName::new(bad), Err(InvalidEvent::Name)), "{bad:?}");
            assert!(matches!(EventKey::new(bad), Err(InvalidEvent::Key)), "{bad:?}");
        }
        assert!(matches!(EventName::new("stream-reset"), Err(InvalidEvent::ReservedName)));
        assert!(EventName::new("streaming").is_ok());
        let names = [("error", false), ("open", false), (RUN_START, false), (RUN_END, false), ("errors", true)];
        for (name, is_ours) in names {
            assert_eq!(Event::text("").named(name).is_ok(), is_ours, "{name}");
            assert!(EventName::new(name).is_ok(), "{name}");
        }
        assert!(Event::text("").at(MAX_TIME + 1).is_err());
    }
}
