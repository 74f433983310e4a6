//! Whether a producer may go on, decided from what the store answers. Pure.

use crate::{
    cursor::Cursor,
    store::{Appended, StoreError},
};

/// What an append of a producer does to its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It stays open.
    Continue,
    /// It is closed.
    Close,
}

/// Why a producer may not go on.
#[derive(Debug)]
pub(super) enum Loss {
    /// The channel is closed, and not by this append.
    Closed,
    /// The channel's head is not what this producer wrote last.
    Fenced,
    /// The store does not take so much.
    TooLarge,
    Store(StoreError),
}

/// A producer owns its channel only if the answer shows its own receipt as the head of the channel: open, or closed by this
/// very append. Everything else, a success included, means that somebody else has changed the channel since.
pub(super) fn judge(answer: Result<Appended, StoreError>, step: Step) -> Result<Cursor, Loss> {
    let appended = answer.map_err(|error| match error {
        StoreError::Closed { .. } => Loss::Closed,
        StoreError::Conflict { head } if head.closed => Loss::Closed,
        StoreError::Conflict { .. } | StoreError::KeyReused { .. } => Loss::Fenced,
        StoreError::TooLarge { .. } => Loss::TooLarge,
        error => Loss::Store(error),
    })?;
    let own = appended.receipts.last().map(|receipt| receipt.cursor);
    match own == Some(appended.head.cursor) && appended.head.closed == (step == Step::Close) {
        true => Ok(appended.head.cursor),
        false if appended.head.closed => Err(Loss::Closed),
        false => Err(Loss::Fenced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Head, Receipt, Unit};

    fn at(seq: u64, tag: u32) -> Cursor {
        Cursor { epoch: 1, seq, tag }
    }

    fn answer(last: Cursor, head: Head) -> Result<Appended, StoreError> {
        let receipts = vec![Receipt::appended(at(1, 1), 0), Receipt::duplicate(last, 0)];
        Ok(Appended::new(receipts, Vec::new(), head))
    }

    #[test]
    fn a_producer_goes_on_only_while_its_own_receipt_is_the_head() {
        let (own, other) = (at(2, 7), at(2, 8));
        let source = || "away".into();
        let table = [
            (answer(own, Head::open(own)), Step::Continue, "at 2"),
            (answer(own, Head::closed(own)), Step::Close, "at 2"),
            // Repeated after an unknown outcome: stored, but the world has moved on.
            (answer(own, Head::open(at(3, 1))), Step::Continue, "fenced"),
            (answer(own, Head::closed(at(3, 1))), Step::Continue, "closed"),
            (answer(own, Head::closed(own)), Step::Continue, "closed"),
            (answer(own, Head::open(own)), Step::Close, "fenced"),
            (answer(own, Head::open(other)), Step::Continue, "fenced"),
            (answer(own, Head::open(Cursor { epoch: 2, ..own })), Step::Continue, "fenced"),
            (Ok(Appended::new(Vec::new(), Vec::new(), Head::open(own))), Step::Continue, "fenced"),
            (Err(StoreError::Closed { head: Head::closed(other) }), Step::Close, "closed"),
            (Err(StoreError::Conflict { head: Head::closed(other) }), Step::Continue, "closed"),
            (Err(StoreError::Conflict { head: Head::open(other) }), Step::Continue, "fenced"),
            (Err(StoreError::KeyReused { index: 0 }), Step::Continue, "fenced"),
            (Err(StoreError::TooLarge { size: 2, max: 1, unit: Unit::Bytes }), Step::Continue, "too large"),
            (Err(StoreError::Corrupt(source())), Step::Continue, "store"),
            (Err(StoreError::Unavailable(source())), Step::Close, "store"),
        ];
        for (n, (answer, step, expected)) in table.into_iter().enumerate() {
            let seen = match judge(answer, step) {
                Ok(cursor) => format!("at {}", cursor.seq),
                Err(Loss::Closed) => "closed".into(),
                Err(Loss::Fenced) => "fenced".into(),
                Err(Loss::TooLarge) => "too large".into(),
                Err(Loss::Store(_)) => "store".into(),
            };
            assert_eq!(seen, expected, "row {n}");
        }
    }
}
