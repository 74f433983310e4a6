//! What every reader checks: that its events come in order, each once. Pure.

/// The order of one channel's numbered events, as one reader sees them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    /// The number that the next event must have; the first one may have any.
    expected: Option<u64>,
}

/// An event that is lost, repeated or out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) number: u64,
    pub(crate) expected: u64,
}

impl Order {
    /// The first event must be this one.
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

    /// Whether everything up to event `next` was taken.
    pub(crate) fn is_at(self, next: u64) -> bool {
        self.expected == Some(next)
    }
}
