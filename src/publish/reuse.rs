//! Keys that stand for two events. Knows how their answer names them.

use std::collections::HashMap;

use http::StatusCode;

use crate::{
    event::{Event, EventKey},
    problem::Problem,
    store::StoreError,
};

/// Where the events of a batch stand in their body: a line each, none for an event that is the whole body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lines(pub(super) Vec<u64>);

impl Lines {
    /// Why the store appended nothing.
    pub(super) fn problem(&self, error: StoreError) -> Problem {
        match reused(&error) {
            Some(index) => self.key_reused(index),
            None => error.into(),
        }
    }

    /// The key of the event at `index` stands for another event.
    pub(super) fn key_reused(&self, index: usize) -> Problem {
        let problem = |detail, parameter| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).kind("key-reused").parameter(parameter)
        };
        match self.0.get(index) {
            Some(line) => {
                let detail = format!("line {line}: its key stands for another event; nothing was published");
                problem(detail, "body").member("line", *line)
            }
            None => problem("the key stands for another event; nothing was published".to_owned(), "Idempotency-Key"),
        }
    }
}

/// Which event of an append a store refused for its key. None says so yet.
fn reused(_: &StoreError) -> Option<usize> {
    None
}

/// The first event whose key an earlier one has that is not the same.
pub(super) fn reused_within(events: &[Event]) -> Option<usize> {
    let mut known: HashMap<&EventKey, &Event> = HashMap::new();
    events.iter().position(|event| {
        event.key().is_some_and(|key| known.insert(key, event).is_some_and(|earlier| earlier != event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_come_again_with_the_same_event() {
        let event = |data: &str, key: &str| Event::text(data).keyed(key).unwrap();
        let table = [
            (vec![], None),
            (vec![Event::text("a"), Event::text("b")], None),
            (vec![event("a", "k"), event("a", "k"), event("b", "l")], None),
            (vec![event("a", "k"), Event::text("b"), event("b", "k")], Some(2)),
            (vec![event("a", "k"), event("a", "k").at(1).unwrap()], Some(1)),
            (vec![event("a", "k"), event("a", "k").named("n").unwrap()], Some(1)),
        ];
        for (events, expected) in table {
            assert_eq!(reused_within(&events), expected, "{events:?}");
        }
    }

    #[test]
    fn a_key_that_stands_for_another_event_is_named() {
        let text = |lines: &[u64], index| format!("{:?}", Lines(lines.to_vec()).key_reused(index));
        assert!(text(&[1, 4], 1).contains("line 4") && text(&[1, 4], 1).contains("\"line\": Number(4)"));
        assert!(text(&[], 0).contains("Idempotency-Key"));
        let other = Lines(vec![1]).problem(StoreError::TooLarge { bytes: 2, most: 1 });
        assert_eq!(other.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
