//! The query parameters of a request to read.

use super::{
    accept::{Transport, parse_transport},
    position::{Position, is_position},
    query::number,
    read::{Format, Heartbeat, PollShape},
    resolver::BadParameter,
};
use crate::{cursor::Cursors, event::MAX_TIME, hub::SubscriptionStart, store::Start};

/// The parameters of a query. What is absent is `None`.
#[derive(Default)]
pub(super) struct ReadParameters {
    pub(super) position: Position,
    pub(super) begin: Option<SubscriptionStart>,
    pub(super) transport: Option<Transport>,
    pub(super) wait: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) format: Option<FormatParameter>,
    pub(super) heartbeat: Option<Heartbeat>,
}

impl ReadParameters {
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadParameter> {
        match name {
            name if is_position(name) => {
                self.position.add(value);
                Ok(())
            }
            b"after" => set_once(&mut self.begin, "after", parse_after(value)),
            b"time" => set_once(&mut self.begin, "time", parse_time(value)),
            b"last" => set_once(&mut self.begin, "last", parse_last(value)),
            b"wait" => {
                set_once(&mut self.wait, "wait", number(value).ok_or("must be a whole number of seconds, such as 25"))
            }
            b"limit" => set_once(&mut self.limit, "limit", parse_limit(value)),
            b"format" => set_once(&mut self.format, "format", parse_format(value)),
            b"heartbeat" => set_once(&mut self.heartbeat, "heartbeat", parse_heartbeat(value)),
            b"transport" => set_once(&mut self.transport, "transport", parse_transport(value)),
            b"cursor" => {
                Err(BadParameter::new("cursor", "is not a parameter of this service: use `after` for the position"))
            }
            b"since" => Err(BadParameter::new(
                "since",
                "is not a parameter of this service: use `time` in Unix milliseconds, or `after`",
            )),
            b"timeout" => {
                Err(BadParameter::new("timeout", "is not a parameter of this service: use `wait` in whole seconds"))
            }
            _ => Ok(()),
        }
    }
}

/// Sets `slot`. The same value twice is harmless, two different values are an error.
fn set_once<T: PartialEq>(
    slot: &mut Option<T>,
    parameter: &'static str,
    value: Result<T, &'static str>,
) -> Result<(), BadParameter> {
    let value = value.map_err(|reason| BadParameter::new(parameter, reason))?;
    match slot {
        Some(before) if *before != value => Err(BadParameter::new(parameter, "contradicts another parameter")),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn parse_after(value: &[u8]) -> Result<SubscriptionStart, &'static str> {
    match value {
        b"beginning" => Ok(SubscriptionStart::Start(Start::Beginning)),
        b"earliest" => Ok(SubscriptionStart::Start(Start::Earliest)),
        b"latest" => Ok(SubscriptionStart::Start(Start::Latest)),
        _ => Cursors::parse(value)
            .map(SubscriptionStart::Resume)
            .map_err(|_| "must be `beginning`, `earliest`, `latest` or a cursor that this service issued"),
    }
}

fn parse_time(value: &[u8]) -> Result<SubscriptionStart, &'static str> {
    let time = number(value).filter(|time| *time <= MAX_TIME);
    time.map(|time| SubscriptionStart::Start(Start::Time(time)))
        .ok_or("must be in Unix milliseconds, at most 8640000000000000")
}

fn parse_last(value: &[u8]) -> Result<SubscriptionStart, &'static str> {
    number(value).map(|count| SubscriptionStart::Start(Start::Last(count))).ok_or("must be a whole number, such as 10")
}

fn parse_limit(value: &[u8]) -> Result<u64, &'static str> {
    number(value).filter(|limit| *limit > 0).ok_or("must be a whole number, at least 1")
}

fn parse_format(value: &[u8]) -> Result<FormatParameter, &'static str> {
    match value {
        b"text" => Ok(FormatParameter::Data(Format::Text)),
        b"json" => Ok(FormatParameter::Data(Format::Json)),
        b"page" => Ok(FormatParameter::Page),
        _ => Err("must be `text` or `json`, or `page` for a long poll"),
    }
}

fn parse_heartbeat(value: &[u8]) -> Result<Heartbeat, &'static str> {
    match value {
        b"comment" => Ok(Heartbeat::Comment),
        b"event" => Ok(Heartbeat::Event),
        _ => Err("must be `comment` or `event`"),
    }
}

/// The value of `format=`, which is either for streams or for long polls; each ignores the other's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FormatParameter {
    Data(Format),
    Page,
}

impl FormatParameter {
    pub(super) fn data(self) -> Option<Format> {
        if let Self::Data(format) = self { Some(format) } else { None }
    }

    pub(super) fn shape(self) -> PollShape {
        if self == Self::Page { PollShape::Page } else { PollShape::Array }
    }
}
