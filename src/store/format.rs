//! The version of a store's data, and which versions of this library may use it: nodes of different versions share a store while
//! they are upgraded one by one. Pure.

use std::{fmt, str::FromStr};

use super::error::{StoreError, Use};

/// The version of a store's format, with the oldest versions that may read and write it. It is stored in the place itself.
///
/// A node checks it when it opens the store and on every use, because another node may raise it at any time:
/// [`may_read`](Self::may_read), [`may_write`](Self::may_write). A node that finds an older version than its own raises it,
/// together with the oldest reader and writer that are compatible with the new version, **before** it writes anything that an
/// older node would misread: from then on, older nodes refuse with [`StoreError::NewerFormat`].
///
/// The text form is `version reader writer`, such as `3 2 3`.
///
/// ```
/// use tower_events::store::Format;
///
/// let stored: Format = "4 2 3".parse()?;
/// assert!(stored.may_write(3).is_ok()); // a node that knows version 3
/// assert!(stored.may_read(2).is_ok() && stored.may_write(2).is_err());
/// assert_eq!(stored.may_read(1).unwrap_err().to_string(),
///     "the event store has format 4, which this version of the library, for format 1, may not read: upgrade this process");
/// # Ok::<(), tower_events::store::InvalidFormat>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    version: u32,
    oldest_reader: u32,
    oldest_writer: u32,
}

impl Format {
    /// A format that only its own version may use.
    #[must_use]
    pub const fn new(version: u32) -> Self {
        Self { version, oldest_reader: version, oldest_writer: version }
    }

    /// Lets nodes read it that support this version or a newer one.
    #[must_use]
    pub const fn readable_from(self, version: u32) -> Self {
        Self { oldest_reader: version, ..self }
    }

    /// Lets nodes read and write it that support this version or a newer one.
    #[must_use]
    pub const fn writable_from(self, version: u32) -> Self {
        let oldest_reader = if version < self.oldest_reader { version } else { self.oldest_reader };
        Self { oldest_reader, oldest_writer: version, ..self }
    }

    /// The version.
    #[must_use]
    pub const fn version(self) -> u32 {
        self.version
    }

    /// Whether a node that supports formats up to `supported` may read.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`].
    pub fn may_read(self, supported: u32) -> Result<(), StoreError> {
        self.permits(Use::Read, self.oldest_reader, supported)
    }

    /// Whether a node that supports formats up to `supported` may write.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`].
    pub fn may_write(self, supported: u32) -> Result<(), StoreError> {
        self.permits(Use::Write, self.oldest_writer, supported)
    }

    fn permits(self, denied: Use, oldest: u32, supported: u32) -> Result<(), StoreError> {
        if supported >= oldest {
            return Ok(());
        }
        Err(StoreError::NewerFormat { stored: self.version, supported, denied })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.version, self.oldest_reader, self.oldest_writer)
    }
}

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        let mut numbers = text.split(' ').map(|number| number.parse().map_err(|_| InvalidFormat(())));
        let mut next = || numbers.next().unwrap_or(Err(InvalidFormat(())));
        let format = Self { version: next()?, oldest_reader: next()?, oldest_writer: next()? };
        if numbers.next().is_none() { Ok(format) } else { Err(InvalidFormat(())) }
    }
}

/// A text that is not a [`Format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidFormat(());

impl fmt::Display for InvalidFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a format is three numbers: the version, its oldest reader, its oldest writer")
    }
}

impl std::error::Error for InvalidFormat {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_use_a_format_is_written_in_it() {
        let table = [
            // stored, known by the node, reads, writes
            ("3 3 3", 3, true, true),
            ("3 3 3", 2, false, false),
            ("3 2 3", 2, true, false),
            ("3 2 2", 2, true, true),
            ("3 2 2", 1, false, false),
            ("2 1 2", 3, true, true),
        ];
        for (stored, supported, reads, writes) in table {
            let format: Format = stored.parse().unwrap();
            let may = (format.may_read(supported).is_ok(), format.may_write(supported).is_ok());
            assert_eq!(may, (reads, writes), "{stored} for {supported}");
            assert_eq!(format.to_string(), stored);
        }
    }

    #[test]
    fn a_format_says_what_it_permits() {
        assert_eq!(Format::new(3).to_string(), "3 3 3");
        assert_eq!(Format::new(3).readable_from(2).to_string(), "3 2 3");
        assert_eq!(Format::new(3).writable_from(2).to_string(), "3 2 2");
        assert_eq!(Format::new(3).readable_from(1).writable_from(2).to_string(), "3 1 2");
    }

    #[test]
    fn a_text_that_is_no_format_is_refused() {
        for text in ["", "3", "3 3", "3 3 3 3", "a b c", "3  3 3", "-1 0 0", "3 3 4294967296"] {
            assert!(text.parse::<Format>().is_err(), "{text:?}");
        }
    }
}
