//! The message that identifies a stream as a place: if the stream's messages are lost, so is this one, and what follows
//! is another place. It also says which versions may use what is stored. Pure.

use std::fmt;

use crate::store::{Format, StoreError, resume};

/// The format that this version writes. Format 1 had no such message.
pub(super) const FORMAT: Format = Format::new(NEWEST_FORMAT);

/// The newest format that this version knows.
pub(super) const NEWEST_FORMAT: u32 = 2;

/// The content of the message: `<epoch> <format>`, such as `00f1e2d3c4b5a697 2 2 2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Drawn at random when the message is written.
    pub(super) epoch: u64,
    pub(super) format: Format,
}

impl Identity {
    /// The identity of a new place.
    pub(super) fn fresh() -> Self {
        Self { epoch: resume::fresh_epoch(), format: FORMAT }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (epoch, format) = text.split_once(' ')?;
        Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, format: format.parse().ok()? })
    }

    /// The identity that must be written before anything else, if the stored one has an older format.
    pub(super) fn raised(self) -> Result<Option<Self>, StoreError> {
        self.format.may_read(NEWEST_FORMAT)?;
        let is_older = self.format.version() < FORMAT.version();
        Ok((is_older && self.format.may_write(NEWEST_FORMAT).is_ok()).then_some(Self { format: FORMAT, ..self }))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} {}", self.epoch, self.format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back() {
        let fresh = Identity::fresh();
        assert_eq!(Identity::parse(&fresh.to_string()), Some(fresh));
        assert_ne!(Identity::fresh().epoch, fresh.epoch);
        for bad in ["", "1", "x 2 2 2", "1 2 2", "00f1e2d3c4b5a697  2 2 2"] {
            assert_eq!(Identity::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_older_format_is_upgraded_and_a_newer_one_is_left_alone() {
        let of = |text: &str| Identity { epoch: 1, format: text.parse().unwrap() };
        assert_eq!(of("1 1 1").raised().unwrap(), Some(of(&FORMAT.to_string())));
        assert_eq!(of(&FORMAT.to_string()).raised().unwrap(), None);
        assert_eq!(of("9 1 1").raised().unwrap(), None);
        assert_eq!(of("9 1 9").raised().unwrap(), None);
        let refused = of("9 9 9").raised().unwrap_err();
        assert!(matches!(refused, StoreError::NewerFormat { stored: 9, supported: NEWEST_FORMAT, .. }), "{refused:?}");
    }
}
