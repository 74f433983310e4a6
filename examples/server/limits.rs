//! What one client, one address or all together may hold or cause: the options `--max-...` and `--...-timeout`.

use std::{str::FromStr, time::Duration};

use lexopt::{Error, Parser, ValueExt};
use tower_events::{EventService, HubOptions, PublishService, longpoll::LongPollOptions, sse::SseOptions};

use super::{connections::ConnectionLimits, options::seconds};

/// All limits. What is `None` has the library's default.
#[derive(Clone, Default)]
pub(crate) struct Limits {
    pub(crate) connection: ConnectionLimits,
    readers: Option<usize>,
    followed_channels: Option<usize>,
    channels: Option<usize>,
    poll_events: Option<usize>,
    catch_up_rate: Option<u32>,
    body: Option<usize>,
    body_memory: Option<usize>,
    body_timeout: Option<Duration>,
    batch: Option<usize>,
    event: Option<usize>,
    depth: Option<usize>,
    publish_rate: Option<u32>,
    publishes: Option<usize>,
}

impl Limits {
    /// Sets the limit of this name.
    pub(crate) fn set(&mut self, option: &str, arguments: &mut Parser) -> Result<(), Error> {
        match option {
            "max-connections" => self.connection.connections = number(arguments)?,
            "head-timeout" => self.connection.head_timeout = seconds(arguments)?,
            "max-head" => self.connection.head_bytes = at_least(LEAST_HEAD, arguments)?,
            "stall-timeout" => self.connection.stall_timeout = seconds(arguments)?,
            "max-address-rate" => self.connection.address_rate = Some(number(arguments)?),
            "max-readers" => self.readers = Some(number(arguments)?),
            "max-followed-channels" => self.followed_channels = Some(number(arguments)?),
            "max-channels" => self.channels = Some(number(arguments)?),
            "max-poll-events" => self.poll_events = Some(number(arguments)?),
            "max-catch-up-rate" => self.catch_up_rate = Some(number(arguments)?),
            "max-body" => self.body = Some(number(arguments)?),
            "max-body-memory" => self.body_memory = Some(number(arguments)?),
            "body-timeout" => self.body_timeout = Some(seconds(arguments)?),
            "max-batch" => self.batch = Some(number(arguments)?),
            "max-event" => self.event = Some(number(arguments)?),
            "max-depth" => self.depth = Some(number(arguments)?),
            "max-publish-rate" => self.publish_rate = Some(number(arguments)?),
            "max-publishes" => self.publishes = Some(number(arguments)?),
            _ => return Err(format!("invalid option '--{option}'").into()),
        }
        Ok(())
    }

    pub(crate) fn of_hub(&self, options: HubOptions) -> HubOptions {
        let options = set(options, self.readers, HubOptions::max_readers);
        set(options, self.followed_channels, HubOptions::max_followed_channels)
    }

    pub(crate) fn of_events(&self, service: EventService, streams: SseOptions) -> EventService {
        let streams = set(streams, self.catch_up_rate, SseOptions::max_catch_up_rate);
        let polls = set(LongPollOptions::default(), self.poll_events, LongPollOptions::limit);
        set(service.sse(streams).long_poll(polls), self.channels, EventService::max_channels)
    }

    pub(crate) fn of_publish(&self, service: PublishService) -> PublishService {
        let service = set(service, self.body, PublishService::max_body);
        let service = set(service, self.body_memory, PublishService::max_body_memory);
        let service = set(service, self.body_timeout, PublishService::body_timeout);
        let service = set(service, self.batch, PublishService::max_events);
        let service = set(service, self.event, PublishService::max_event);
        let service = set(service, self.depth, PublishService::max_depth);
        let service = set(service, self.publish_rate, PublishService::max_events_per_second);
        set(service, self.publishes, PublishService::max_in_flight)
    }
}

fn set<T, V>(target: T, value: Option<V>, setter: fn(T, V) -> T) -> T {
    match value {
        Some(value) => setter(target, value),
        None => target,
    }
}

fn number<T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>>(arguments: &mut Parser) -> Result<T, Error> {
    arguments.value()?.parse()
}

fn at_least(least: u32, arguments: &mut Parser) -> Result<u32, Error> {
    let value = number(arguments)?;
    if value < least { Err(format!("{value} is less than {least}").into()) } else { Ok(value) }
}

/// hyper's least buffer.
const LEAST_HEAD: u32 = 8 << 10;

pub(crate) const HELP: &str = "\
Limits; what a client sees beyond each is listed in docs/operations.md:

  --max-connections N    connections at once; more wait to be accepted [100000]
  --head-timeout S       seconds for the head of a request, and between two requests of a connection [30]
  --max-head N           bytes of a head, at least 8192 [16384]
  --stall-timeout S      seconds after which a client that reads nothing is disconnected (Linux) [60]
  --max-address-rate N   requests per second of each address [no limit]
  --max-readers N        streams and waiting polls at once [1048576]
  --max-followed-channels N  channels that have readers [1048576]
  --max-channels N       channels of a subscription, at most 255 [32]
  --max-poll-events N    events of a poll's answer [100]
  --max-catch-up-rate N  bytes per second of a stream that is behind, at least 65536 [no limit]
  --max-body N           bytes of a publish [1048576]
  --max-body-memory N    bytes of all publishes that are arriving or being stored [268435456]
  --body-timeout S       seconds for the body of a publish [30]
  --max-batch N          events of a publish [10000]
  --max-event N          bytes of an event [262144]
  --max-depth N          nesting of an event's arrays and objects [128]
  --max-publish-rate N   events per second from all clients [no limit]
  --max-publishes N      publishes that wait for the store at once [1024]";
