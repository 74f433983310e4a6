//! Where in a body each event is, for errors that a store reports by an event's index.

use http::StatusCode;

use crate::{problem::Problem, store::StoreError};

/// The line numbers of the events of a batch; none for an event that is the whole body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LineNumbers(pub(super) Vec<u64>);

impl LineNumbers {
    /// The store's error, with the line that it is about.
    pub(super) fn problem(&self, error: StoreError) -> Problem {
        match error {
            StoreError::KeyReused { index } => self.key_reused(index),
            error => error.into(),
        }
    }

    /// The key of the event at `index` was used for another event before.
    fn key_reused(&self, index: usize) -> Problem {
        let problem = |detail, parameter| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).kind("key-reused").parameter(parameter)
        };
        match self.0.get(index) {
            Some(line) => {
                let detail = format!("line {line}: its key was used for another event; nothing was published");
                problem(detail, "body").member("line", *line)
            }
            None => problem("the key was used for another event; nothing was published".to_owned(), "Idempotency-Key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Unit;

    #[test]
    fn a_key_that_was_used_for_another_event_is_named() {
        let text = |lines: &[u64], index| format!("{:?}", LineNumbers(lines.to_vec()).key_reused(index));
        assert!(text(&[1, 4], 1).contains("line 4") && text(&[1, 4], 1).contains("\"line\": Number(4)"));
        assert!(text(&[], 0).contains("Idempotency-Key"));
        let other = LineNumbers(vec![1]).problem(StoreError::TooLarge { size: 2, max: 1, unit: Unit::Bytes });
        assert_eq!(other.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
