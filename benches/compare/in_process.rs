//! What ours costs without sockets, in a process that does nothing else.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    str::FromStr,
    task::{Context, Poll, Waker},
    time::Instant,
};

use futures_core::Stream as _;
use tower_events::{Channel, Delivery, Event, Hub, MemoryStore, Subscriber, Subscription};

use crate::machine;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InProcess {
    /// Publishing to a channel that nobody reads.
    Publish { batch: usize },
    /// So many channels with a reader each: an event to one of them after the other, until its reader has it.
    Channels(usize),
}

impl InProcess {
    /// Prints what [`parse`] reads.
    pub(crate) fn measure(self) {
        machine::pin(&[machine::SERVER]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let count = runtime.block_on(async {
            match self {
                Self::Publish { batch } => publish(batch).await,
                Self::Channels(channels) => deliver(channels).await,
            }
        });
        println!("{count}");
    }
}

/// Cost in microseconds, and events per second.
pub(crate) fn parse(text: &str) -> Option<(f64, f64)> {
    let (cost, rate) = text.trim().split_once(' ')?;
    Some((cost.parse().ok()?, rate.parse().ok()?))
}

async fn publish(batch: usize) -> String {
    let hub = Hub::new(MemoryStore::default());
    let channel = Channel::new("a").expect("a name");
    let batches = if cfg!(debug_assertions) { 100 } else { 20_000 };
    let mut clock = Clock::start();
    for at in 0..batches {
        if at == batches / 10 {
            clock = Clock::start();
        }
        hub.publish_all(&channel, (0..batch).map(|_| event())).await.expect("published");
    }
    clock.per((batches - batches / 10) * batch)
}

async fn deliver(count: usize) -> String {
    let hub = Hub::new(MemoryStore::default());
    let mut readers = Vec::with_capacity(count);
    for at in 0..count {
        let channel = Channel::new(format!("c{at}")).expect("a name");
        let reader = hub.subscribe(Subscription::new(&channel)).await.expect("a reader");
        readers.push((channel, reader));
    }
    for (channel, reader) in &mut readers {
        hub.publish(channel, event()).await.expect("published");
        let delivery = reader.next().await.expect("goes on").expect("the store works");
        assert!(matches!(delivery, Delivery::Events(events) if events.len() == 1), "one event");
        park(reader);
    }
    let events = count.max(if cfg!(debug_assertions) { 100 } else { 200_000 });
    let clock = Clock::start();
    for at in 0..events {
        let (channel, reader) = &mut readers[at % count];
        hub.publish(channel, event()).await.expect("published");
        let delivery = poll_fn(|cx| Pin::new(&mut *reader).poll_next(cx)).await.expect("goes on");
        assert!(matches!(delivery, Ok(Delivery::Events(events)) if events.len() == 1), "one event");
        park(reader);
    }
    clock.per(events)
}

/// As a reader's task does before it sleeps.
fn park(reader: &mut Subscriber) {
    let polled = Pin::new(reader).poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "more than was published");
}

fn event() -> Event {
    Event::text("x".repeat(100))
}

struct Clock {
    cpu: f64,
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { cpu: Self::cpu(), start: Instant::now() }
    }

    fn per(&self, events: usize) -> String {
        let count = events as f64;
        format!("{} {}", (Self::cpu() - self.cpu) * 1e6 / count, count / self.start.elapsed().as_secs_f64())
    }

    fn cpu() -> f64 {
        machine::cpu(&["self".to_owned()])
    }
}

impl fmt::Display for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish { batch } => write!(f, "batches of {batch}"),
            Self::Channels(count) => write!(f, "channels: {count}"),
        }
    }
}

impl FromStr for InProcess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
        match (text.strip_prefix("batches of "), text.strip_prefix("channels: ")) {
            (Some(batch), _) => Ok(Self::Publish { batch: number(batch)? }),
            (_, Some(count)) => Ok(Self::Channels(number(count)?)),
            _ => Err(format!("{text:?} cannot be measured")),
        }
    }
}
