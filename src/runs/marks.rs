//! The first and the last event of a run. Pure.

use serde::{Deserialize, Serialize};

use super::{options::ErrorText, outcome::RunOutcome};
use crate::{
    event::{Data, Event, RUN_END, RUN_START},
    store::Entry,
};

/// Who runs what: the data of a run's first event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) run: String,
    pub(super) process: String,
}

impl Owner {
    pub(super) fn start(&self) -> Event {
        Event::own(RUN_START, data(self))
    }

    /// The owner that the first entry of a channel names.
    pub(super) fn named_by(entry: &Entry) -> Option<Self> {
        let is_start = entry.name.as_ref().is_some_and(|name| name.as_str() == RUN_START);
        is_start.then(|| serde_json::from_str(entry.data.as_shown()).ok()).flatten()
    }
}

/// How a run ends, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) outcome: RunOutcome,
    pub(super) cause: Cause,
}

/// What else is known of an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The outcome says everything.
    None,
    /// The run exceeds what the store keeps.
    TooLarge,
    /// The text of an error or a panic.
    Error(String),
}

impl End {
    pub(super) fn plain(outcome: RunOutcome) -> Self {
        Self { outcome, cause: Cause::None }
    }

    pub(super) fn too_large() -> Self {
        Self { outcome: RunOutcome::Failed, cause: Cause::TooLarge }
    }

    pub(super) fn error(text: String) -> Self {
        Self { outcome: RunOutcome::Failed, cause: Cause::Error(text) }
    }

    /// The last event.
    pub(super) fn event(&self, error_text: ErrorText) -> Event {
        let (reason, error) = match &self.cause {
            Cause::TooLarge => (Some("too-large"), None),
            Cause::Error(text) if error_text == ErrorText::Published => (None, Some(shortened(text))),
            Cause::None | Cause::Error(_) => (None, None),
        };
        Event::own(RUN_END, data(&EndData { outcome: self.outcome, reason, error }))
    }
}

#[derive(Serialize)]
struct EndData<'a> {
    outcome: RunOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The first 1 000 characters.
fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(1_000).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

/// Cannot fail: these values are objects of strings.
fn data(value: &impl Serialize) -> Data {
    Data::json(value).unwrap_or_else(|_| Data::text(""))
}

/// `event` with the key of the `n`th event of a run, whatever key it had. So a batch that is repeated is recognised.
pub(super) fn with_key(event: Event, run: &str, n: u64) -> Event {
    // Cannot fail: the id of a run is short and has no control characters.
    event.clone().keyed(format!("{run}/{n}")).unwrap_or(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::Channel, cursor::Cursor};

    fn entry(event: Event) -> Entry {
        let (data, name) = event.into_parts();
        let cursor = Cursor { epoch: 1, seq: 1, tag: 1 };
        Entry::new(Channel::new("run:1").unwrap(), cursor, data).named(name)
    }

    #[test]
    fn a_start_names_its_owner() {
        let owner = Owner { run: "r".into(), process: "p".into() };
        assert_eq!(Owner::named_by(&entry(owner.start())), Some(owner));
        let table = [
            Event::text("r"),
            Event::own(RUN_START, Data::text("r")),
            Event::own(RUN_END, Data::from_json(r#"{"run":"r","process":"p"}"#).unwrap()),
        ];
        for other in table {
            assert_eq!(Owner::named_by(&entry(other.clone())), None, "{other:?}");
        }
    }

    #[test]
    fn an_end_says_its_outcome_and_the_error_only_when_asked_to() {
        let failed = || End::error("the model is away".into());
        let table = [
            (End::plain(RunOutcome::Finished), ErrorText::Published, r#"{"outcome":"finished"}"#),
            (End::plain(RunOutcome::Stopped), ErrorText::Logged, r#"{"outcome":"stopped"}"#),
            (End::plain(RunOutcome::Abandoned), ErrorText::Logged, r#"{"outcome":"abandoned"}"#),
            (End::too_large(), ErrorText::Logged, r#"{"outcome":"failed","reason":"too-large"}"#),
            (failed(), ErrorText::Logged, r#"{"outcome":"failed"}"#),
            (failed(), ErrorText::Published, r#"{"outcome":"failed","error":"the model is away"}"#),
        ];
        for (end, error_text, json) in table {
            let event = end.event(error_text);
            assert_eq!((event.data().as_shown(), event.name().unwrap().as_str()), (json, RUN_END));
        }
        let long = End::error("é".repeat(2_000)).event(ErrorText::Published);
        assert_eq!(long.data().as_shown().chars().filter(|c| *c == 'é').count(), 1_000);
    }

    #[test]
    fn keys_count_the_events_of_a_run() {
        let key = |event: &Event| event.key().unwrap().as_str().to_owned();
        let events: Vec<_> = (0..3).map(|n| with_key(Event::text("x").keyed("own").unwrap(), "r", n)).collect();
        assert_eq!(events.iter().map(key).collect::<Vec<_>>(), ["r/0", "r/1", "r/2"]);
    }
}
