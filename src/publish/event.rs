//! One event of a body: read, and held to what is taken over HTTP beyond what every event keeps. Pure.

use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::request_head::RequestHead;
use crate::{
    error::InvalidEvent,
    event::{Data, Event, EventKey},
    problem::Problem,
    request::BadParameter,
    store::Clock,
};

/// How much is taken, and from when.
#[derive(Clone, Debug)]
pub(super) struct PublishLimits {
    /// Most bytes of a body.
    pub(super) max_body: usize,
    /// Most events of a body.
    pub(super) max_events: usize,
    /// Most bytes of an event's data.
    pub(super) max_event: usize,
    /// What the time of an event is held against.
    pub(super) clock: Clock,
}

/// Most levels of arrays and objects in one another: what the JSON parsers of readers take at least.
const MAX_NESTING: usize = 128;

/// How far ahead the time of an event may lie, in milliseconds. Once such an event is dropped, a reader that asks for events
/// after an earlier time must be told that some may be missing: a time in the far future would be said so for ever.
const MAX_AHEAD_MS: u64 = 60 * 60 * 1000;

/// Whether `event` is taken.
pub(super) fn check_event(event: &Event, limits: &PublishLimits) -> Result<(), Problem> {
    let (data, most) = (event.data(), limits.max_event);
    if data.len() > most {
        return Err(invalid(format!("the data have {} bytes: at most {most} are taken here", data.len())));
    }
    if data.as_text().is_none() && nesting_depth(data.as_shown()) > MAX_NESTING {
        return Err(invalid(format!("the data have more than {MAX_NESTING} levels of arrays and objects")));
    }
    if event.time().is_some_and(|time| time > limits.clock.now().saturating_add(MAX_AHEAD_MS)) {
        return Err(invalid("`time`: lies more than an hour ahead".to_owned()).parameter("time"));
    }
    Ok(())
}

/// How many arrays and objects of valid JSON stand in one another.
fn nesting_depth(json: &str) -> usize {
    let (mut level, mut most) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if in_string => {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            }
            b'"' => in_string = true,
            b'[' | b'{' => {
                level += 1;
                most = most.max(level);
            }
            b']' | b'}' => level = level.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The event that one line of a batch is.
pub(super) fn event_of_line(
    head: &RequestHead,
    line: &[u8],
    number: u64,
    limits: &PublishLimits,
) -> Result<Event, Problem> {
    let value: &RawValue = serde_json::from_slice(line).map_err(|error| line_error(&error, number))?;
    // An array of four would do for serde.
    if !value.get().starts_with('{') {
        return Err(invalid(format!("line {number}: must be an object with `data`")));
    }
    let line: BatchLine<'_> = serde_json::from_slice(line).map_err(|error| line_error(&error, number))?;
    let data = Data::from_json(line.data.get()).map_err(malformed)?;
    let mut event = head.apply(Event::new(data))?;
    if let Some(name) = parse_field::<String>(line.name, "name", number)? {
        event = event.named(name)?;
    }
    if let Some(time) = parse_field(line.time, "time", number)? {
        event = event.at(time)?;
    }
    event = match (parse_field::<String>(line.key, "key", number)?, &head.key) {
        (Some(own), _) => event.keyed(own)?,
        (None, Some(shared)) => with_line_key(event, shared, number)?,
        (None, None) => event,
    };
    check_event(&event, limits)?;
    Ok(event)
}

/// A repeated batch has the same numbers, so every event of it is recognised by itself.
fn with_line_key(event: Event, shared: &EventKey, number: u64) -> Result<Event, Problem> {
    let key = format!("{}/{number}", shared.as_str());
    event.keyed(key).map_err(|_| BadParameter::new("Idempotency-Key", "is too long to number the lines with").into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchLine<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    name: Option<&'a RawValue>,
    time: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
}

/// Read by itself, so that the error can name the field: serde's own does not.
fn parse_field<T: DeserializeOwned>(value: Option<&RawValue>, name: &str, number: u64) -> Result<Option<T>, Problem> {
    let read = value.map(|value| serde_json::from_str(value.get())).transpose();
    read.map_err(|error| invalid(format!("line {number}: `{name}`: {}", error_reason(&error))))
}

/// What is no JSON is malformed; what is JSON, but not an event, is invalid.
fn line_error(error: &serde_json::Error, number: u64) -> Problem {
    let detail = format!("line {number}, column {}: {}", error.column(), error_reason(error));
    match error.is_data() {
        true => invalid(detail),
        false => BadParameter::new("body", detail).into(),
    }
}

fn error_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // Each line is read alone, so serde's own line number is always 1.
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    // It may quote the line, which may be long.
    reason.chars().take(200).collect()
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).kind("invalid-event").parameter("body")
}

pub(super) fn malformed(invalid: InvalidEvent) -> Problem {
    match invalid {
        InvalidEvent::Json(source) => BadParameter::new("body", format!("is not one JSON value: {source}")).into(),
        invalid => invalid.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MAX_TIME;

    #[test]
    fn a_time_may_lie_an_hour_ahead() {
        let limits = |now| PublishLimits { max_body: 0, max_events: 1, max_event: 10, clock: Clock::new(move || now) };
        let table = [
            (0, 0, true),
            (5, MAX_AHEAD_MS + 5, true),
            (5, MAX_AHEAD_MS + 6, false),
            (MAX_AHEAD_MS * 9, 0, true),
            (u64::MAX, MAX_TIME, true),
        ];
        for (now, time, taken) in table {
            let event = Event::text("x").at(time).unwrap();
            assert_eq!(check_event(&event, &limits(now)).is_ok(), taken, "{now} {time}");
        }
        assert!(check_event(&Event::text("x"), &limits(0)).is_ok());
    }

    #[test]
    fn levels_are_counted_outside_strings() {
        let table = [
            ("1", 0),
            ("[]", 1),
            ("{\"a\":[1,{}],\"b\":[[]]}", 3),
            ("[\"[[[\",\"\\\"[[\",\"\\\\\",[]]", 2),
            ("{\"[{\":\"}]\"}", 1),
        ];
        for (json, expected) in table {
            assert_eq!(nesting_depth(json), expected, "{json}");
        }
    }
}
