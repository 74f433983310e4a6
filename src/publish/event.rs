//! One event of a body: parsed, and checked against the limits that apply only over HTTP. Pure.

use std::iter;

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

/// The limits of what a service accepts.
#[derive(Clone, Debug)]
pub(super) struct PublishLimits {
    /// Maximum bytes of a body.
    pub(super) max_body: usize,
    /// Maximum number of events of a body.
    pub(super) max_events: usize,
    /// Maximum bytes of an event's data.
    pub(super) max_event: usize,
    /// Maximum nesting of arrays and objects of an event's data.
    pub(super) max_depth: usize,
    /// What the time of an event is compared with.
    pub(super) clock: Clock,
}

/// How far in the future the time of an event may be, in milliseconds. Once an event is dropped, a reader that asks for
/// events after an earlier time gets a reset: with a time in the far future all such readers would get one for ever.
const MAX_AHEAD_MS: u64 = 60 * 60 * 1000;

/// Checks `event` against the limits.
pub(super) fn check_event(event: &Event, limits: &PublishLimits) -> Result<(), Problem> {
    let (data, max, max_depth) = (event.data(), limits.max_event, limits.max_depth);
    if data.len() > max {
        return Err(invalid(format!("the data has {} bytes; at most {max} are accepted", data.len())));
    }
    if data.as_text().is_none() && nesting_depth(data.as_shown()) > max_depth {
        return Err(invalid(format!("the data has more than {max_depth} levels of nested arrays and objects")));
    }
    if data.as_text().is_none() && has_number_out_of_range(data.as_shown()) {
        return Err(invalid("the data has a number that is out of the range of a double".to_owned()));
    }
    if event.time().is_some_and(|time| time > limits.clock.now().saturating_add(MAX_AHEAD_MS)) {
        return Err(invalid("`time`: is more than an hour in the future".to_owned()).parameter("time"));
    }
    Ok(())
}

/// How deeply arrays and objects are nested in valid JSON.
fn nesting_depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in outside_strings(json).flat_map(str::bytes) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether a number in valid JSON is beyond a double, such as `1e400`: a parser that refuses it refuses the whole text.
fn has_number_out_of_range(json: &str) -> bool {
    let is_in_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    let mut numbers = outside_strings(json).flat_map(|part| part.split(move |c| !is_in_number(c)));
    let may_be_large = |number: &str| number.contains(['e', 'E']) || number.len() > f64::MAX_10_EXP as usize;
    numbers.any(|number| may_be_large(number) && number.parse().is_ok_and(f64::is_infinite))
}

/// The parts of valid JSON that are not in strings.
fn outside_strings(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    iter::from_fn(move || {
        let (outside, string) = rest.split_once('"').unwrap_or((rest, ""));
        rest = after_string(string);
        (!outside.is_empty() || !string.is_empty()).then_some(outside)
    })
}

/// What follows the quote that ends a string.
fn after_string(json: &str) -> &str {
    let mut escaped = false;
    let ends = |byte: u8| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    };
    json.bytes().position(ends).and_then(|end| json.get(end + 1..)).unwrap_or_default()
}

/// Parses a line of a batch.
pub(super) fn event_of_line(
    head: &RequestHead,
    line: &[u8],
    number: u64,
    limits: &PublishLimits,
) -> Result<Event, Problem> {
    let value: &RawValue = serde_json::from_slice(line).map_err(|error| line_error(&error, number))?;
    // Serde would also accept an array of the four fields.
    if !value.get().starts_with('{') {
        return Err(invalid(format!("line {number}: must be a JSON object with `data`")));
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

/// A repeated batch has the same line numbers, so each of its events is recognised on its own.
fn with_line_key(event: Event, shared: &EventKey, number: u64) -> Result<Event, Problem> {
    let key = format!("{}/{number}", shared.as_str());
    event.keyed(key).map_err(|_| {
        BadParameter::new("Idempotency-Key", "is too long: the number of each line is appended to it").into()
    })
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

/// Parses each field on its own, so that the error can name it: serde's error does not.
fn parse_field<T: DeserializeOwned>(value: Option<&RawValue>, name: &str, number: u64) -> Result<Option<T>, Problem> {
    let parsed = value.map(|value| serde_json::from_str(value.get())).transpose();
    parsed.map_err(|error| invalid(format!("line {number}: `{name}`: {}", error_reason(&error))))
}

/// 400 for a line that is not JSON; 422 for JSON that is not an event.
fn line_error(error: &serde_json::Error, number: u64) -> Problem {
    let detail = format!("line {number}, column {}: {}", error.column(), error_reason(error));
    match error.is_data() {
        true => invalid(detail),
        false => BadParameter::new("body", detail).into(),
    }
}

fn error_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // Each line is parsed on its own, so serde's line number is always 1.
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    // It may quote the line, which can be long.
    reason.chars().take(200).collect()
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).kind("invalid-event").parameter("body")
}

pub(super) fn malformed(invalid: InvalidEvent) -> Problem {
    match invalid {
        InvalidEvent::Json(source) => BadParameter::new("body", format!("is not a single JSON value: {source}")).into(),
        invalid => invalid.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MAX_TIME;

    #[test]
    fn a_time_may_be_an_hour_in_the_future() {
        let limits = |now| PublishLimits {
            max_body: 0,
            max_events: 1,
            max_event: 10,
            max_depth: 128,
            clock: Clock::new(move || now),
        };
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
    fn nesting_is_counted_outside_strings() {
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

    #[test]
    fn a_number_beyond_a_double_is_found_outside_strings() {
        let (large, long) = (format!("[1{}]", "0".repeat(309)), format!("0.{}", "1".repeat(400)));
        let table = [
            ("1e308", false),
            ("1e309", true),
            ("[-1E+400]", true),
            ("{\"a\":[1,2e999]}", true),
            ("1e-400", false),
            ("[\"1e400\",\"\\\"\",1e4,true,false,\"1e400\"]", false),
            ("[\"\\\\\",1e400]", true),
            (&large, true),
            (&long, false),
            ("\"\"", false),
        ];
        for (json, expected) in table {
            assert_eq!(has_number_out_of_range(json), expected, "{json}");
        }
    }
}
