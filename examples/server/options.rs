//! The command line.

use std::{net::SocketAddr, num::NonZeroUsize, str::FromStr, time::Duration};

use lexopt::{Parser, ValueExt};
use tower_events::Retention;

use super::{
    limits::{self, Limits},
    logs::LogFormat,
    store::StoreUrl,
};

pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) store: StoreUrl,
    pub(crate) retention: Retention,
    pub(crate) ring_bytes: usize,
    pub(crate) heartbeat: Duration,
    pub(crate) max_age: Option<Duration>,
    pub(crate) drain: Duration,
    /// How long a stopping server accepts connections.
    pub(crate) grace: Duration,
    pub(crate) limits: Limits,
    pub(crate) workers: Option<NonZeroUsize>,
    pub(crate) frontend: Frontend,
    pub(crate) origins: Origins,
    pub(crate) log_format: LogFormat,
}

/// The HTTP server library.
pub(crate) enum Frontend {
    Axum,
    Hyper,
}

impl FromStr for Frontend {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "axum" => Ok(Self::Axum),
            "hyper" => Ok(Self::Hyper),
            _ => Err(format!("unknown frontend {name:?}")),
        }
    }
}

/// From which origins pages may use the server.
pub(crate) enum Origins {
    Own,
    Any,
}

impl Options {
    /// `None` when help was asked for.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::Arg::{Long, Short};
        let mut options = Self::default();
        let mut arguments = Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("listen") => options.listen = arguments.value()?.parse()?,
                Long("store") => options.store = arguments.value()?.parse()?,
                Long("retention-events") => options.retention.events = arguments.value()?.parse()?,
                Long("retention-age") => options.retention.age = seconds(&mut arguments)?,
                Long("retention-bytes") => options.retention.bytes = arguments.value()?.parse()?,
                Long("retention-keys") => options.retention.key_window = seconds(&mut arguments)?,
                Long("ring-bytes") => options.ring_bytes = arguments.value()?.parse()?,
                Long("heartbeat") => options.heartbeat = seconds(&mut arguments)?,
                Long("max-age") => options.max_age = Some(seconds(&mut arguments)?),
                Long("drain") => options.drain = seconds(&mut arguments)?,
                Long("grace") => options.grace = seconds(&mut arguments)?,
                Long("workers") => options.workers = Some(arguments.value()?.parse()?),
                Long("frontend") => options.frontend = arguments.value()?.parse()?,
                Long("log-format") => options.log_format = arguments.value()?.parse()?,
                Long("cors") => options.origins = Origins::Any,
                Short('h') | Long("help") => {
                    println!("{HELP}\n\n{}", limits::HELP);
                    return Ok(None);
                }
                Long(limit) => {
                    let limit = limit.to_owned();
                    options.limits.set(&limit, &mut arguments)?;
                }
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            store: StoreUrl::Memory,
            retention: Retention::default(),
            ring_bytes: 512 << 10,
            heartbeat: Duration::from_secs(15),
            max_age: None,
            drain: Duration::from_secs(5),
            grace: Duration::from_millis(500),
            limits: Limits::default(),
            workers: None,
            frontend: Frontend::Axum,
            origins: Origins::Own,
            log_format: LogFormat::default(),
        }
    }
}

pub(crate) fn seconds(arguments: &mut Parser) -> Result<Duration, lexopt::Error> {
    let seconds = arguments.value()?.parse()?;
    let parsed = Duration::try_from_secs_f64(seconds);
    parsed
        .ok()
        .filter(|time| *time <= CENTURY)
        .ok_or_else(|| format!("{seconds} is not a valid number of seconds").into())
}

pub(crate) const HELP: &str = "\
An event server: GET /events?channel=, POST /publish?channel=; for operators GET /, /metrics, /healthz, /readyz.

  --listen ADDRESS       where to listen; port 0 picks a free one [127.0.0.1:3000]
  --store URL            where events are stored: memory:, file:PATH, or (if built with the feature of that name)
                         redis://..., nats://..., postgres://...; all but memory: can be shared by servers [memory:]
  --retention-events N   events kept per channel, at most [1000]
  --retention-age S      seconds that an event is kept [3600]
  --retention-bytes N    bytes kept per channel, at most [8388608]
  --retention-keys S     seconds that the key of an event is remembered [600]
  --ring-bytes N         bytes of recent events kept in memory per channel that has readers [524288]
  --heartbeat S          seconds of silence before a heartbeat [15]
  --max-age S            seconds after which a stream ends and the client reconnects [never]
  --drain S              seconds over which clients reconnect after a stop [5]
  --grace S              seconds from a signal to stop until no more connections are accepted [0.5]
  --workers N            worker threads [one per processor]
  --frontend NAME        axum, or hyper: HTTP/1.1 only, less CPU and memory per connection [axum]
  --log-format NAME      text or json, on the standard error; RUST_LOG says what is logged [text]
  --cors                 allow pages from every origin to read and publish
  --help";

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
