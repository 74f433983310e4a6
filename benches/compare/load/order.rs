//! The check of every reader: its events arrive in order, each once. Pure.

/// The order of one channel's numbered events at one reader.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    /// The number of the next event; the first may have any number.
    expected: Option<u64>,
}

/// An event that is lost, repeated or out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) number: u64,
    pub(crate) expected: u64,
}

impl Order {
    /// Expects this number first.
    pub(crate) fn from(first: u64) -> Self {
        Self { expected: Some(first) }
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self, number: u64) -> Result<(), Wrong> {
        match self.expected {
            Some(expected) if expected != number => Err(Wrong { number, expected }),
            _ => {
                self.expected = Some(number + 1);
                Ok(())
            }
        }
    }

    /// Whether `next` is the number of the next event.
    pub(crate) fn is_at(self, next: u64) -> bool {
        self.expected == Some(next)
    }
}
