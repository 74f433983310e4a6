//! The data of an event: one JSON value, kept as the bytes that were received. It is never parsed into a tree, so numbers, the
//! order of keys and escapes stay as they were.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::InvalidEvent;

/// One JSON value. A string is a *text*; any other value is compact JSON. Cloning shares the bytes.
///
/// ```
/// use tower_events::Data;
///
/// let text = Data::from_json(r#" "a\nb" "#)?;
/// assert_eq!(text.as_text(), Some("a\nb"));
/// let number = Data::from_json("1e400")?;
/// assert_eq!(&*number.to_json(), b"1e400");
/// # Ok::<(), tower_events::InvalidEvent>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Data(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    Text(Utf8),
    /// Compact JSON of any value but a string.
    Json(Utf8),
}

impl Data {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self(Repr::Text(Utf8::exact(text.into())))
    }

    /// A text from bytes that may not be UTF-8. The bytes are copied: they may be part of a larger buffer, which the event would
    /// otherwise keep alive.
    ///
    /// # Errors
    /// When the bytes are not UTF-8.
    pub fn text_from_utf8(bytes: impl AsRef<[u8]>) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(bytes.as_ref()).map(Self::text)
    }

    /// `value` as JSON; a value that serialises to a string becomes a text.
    ///
    /// # Errors
    /// [`InvalidEvent::Json`] when it cannot be serialised.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidEvent> {
        // A `RawValue` may contain white space, so serialised data is compacted as received data is.
        Self::from_json(serde_json::to_string(value).map_err(not_json)?)
    }

    /// One JSON value as it was received. White space outside strings is removed; everything else stays as it is.
    ///
    /// # Errors
    /// [`InvalidEvent::Json`] if it is not exactly one JSON value, or a string that is not Unicode.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, InvalidEvent> {
        let value: &RawValue = serde_json::from_slice(json.as_ref()).map_err(not_json)?;
        let value = value.get();
        if value.starts_with('"') {
            return serde_json::from_str::<String>(value).map(Self::text).map_err(not_json);
        }
        Ok(Self(Repr::Json(Utf8::exact(compact(value)))))
    }

    /// The text, if the value is a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Repr::Text(text) => Some(text.as_str()),
            Repr::Json(_) => None,
        }
    }

    /// The value as compact JSON; a text is quoted and escaped. [`Data::from_json`] of it gives the same value.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        match &self.0 {
            Repr::Json(json) => json.0.clone(),
            // Serialising a string cannot fail.
            Repr::Text(text) => serde_json::to_vec(text.as_str()).unwrap_or_default().into(),
        }
    }

    /// The value as SSE streams show it: a text as it is, any other value as compact JSON.
    #[must_use]
    pub fn as_shown(&self) -> &str {
        match &self.0 {
            Repr::Text(text) | Repr::Json(text) => text.as_str(),
        }
    }

    /// The length of the stored value, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Text(text) | Repr::Json(text) => text.0.len(),
        }
    }

    /// Whether the value is the empty text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Text(text) => fmt::Debug::fmt(text.as_str(), f),
            Repr::Json(json) => f.write_str(json.as_str()),
        }
    }
}

/// Bytes that are UTF-8, ensured by the constructor. There is no spare capacity, because events are kept for long.
#[derive(Clone, PartialEq, Eq)]
struct Utf8(Bytes);

impl Utf8 {
    fn exact(text: String) -> Self {
        Self(Bytes::from(text.into_boxed_str().into_boxed_bytes()))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Removes the white space between the tokens of valid JSON.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

fn not_json(source: serde_json::Error) -> InvalidEvent {
    InvalidEvent::Json(source.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_were_but_for_white_space() {
        let table = [
            (" { \"a b\" : [ 1.0 , -0 , 1e400, \"x \\\" y\\\\\" ] }\n", "{\"a b\":[1.0,-0,1e400,\"x \\\" y\\\\\"]}"),
            ("{\"b\":1,\"a\":2,\"b\":3}", "{\"b\":1,\"a\":2,\"b\":3}"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("null", "null"),
            ("[\"\\ud800\"]", "[\"\\ud800\"]"),
        ];
        for (sent, kept) in table {
            let data = Data::from_json(sent).unwrap();
            assert_eq!(data.as_shown(), kept);
            assert_eq!(data.to_json(), kept);
            assert_eq!(data.as_text(), None);
        }
    }

    #[test]
    fn strings_are_texts() {
        for text in ["", " ", "a\r\nb\0", "\u{2028}", "\u{feff}x", "😀"] {
            let data = Data::json(text).unwrap();
            assert_eq!(data.as_text(), Some(text));
            assert_eq!(data, Data::text(text));
            assert_eq!(Data::from_json(data.to_json()).unwrap(), data);
        }
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for bad in ["", " ", "{", "1 2", "'a'", "\"\\ud800\"", "nul", "[1,]", "\u{feff}1"] {
            assert!(Data::from_json(bad).is_err(), "{bad:?}");
        }
        assert!(Data::from_json(b"\"\xff\"").is_err());
        assert!(Data::text_from_utf8(b"\xff").is_err());
        // Deep nesting takes no stack.
        assert!(Data::from_json("[".repeat(200_000)).is_err());
        assert!(Data::from_json("[".repeat(200_000) + &"]".repeat(200_000)).is_ok());
    }
}
