//! The cost of this crate without sockets, in a process that does nothing else.

use std::{
    collections::HashMap,
    fmt,
    future::{Future as _, poll_fn},
    io::{self, Write},
    net::{TcpListener, TcpStream},
    pin::{Pin, pin},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use futures_core::Stream as _;
use http_body::Body as _;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, broadcast},
};
use tower_events::{Channel, Delivery, Event, Hub, HubOptions, MemoryStore, Retention, Subscriber, Subscription};

use crate::machine;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InProcess {
    /// Publishing to a channel without readers.
    Publish { batch: usize },
    /// This many channels with one reader each; one event at a time, to each channel in turn.
    Channels(usize),
    /// The same with `tokio::sync::broadcast`, which keeps, numbers and encodes nothing.
    ByHand(usize),
    /// Streams of one channel in tasks on this many workers; one event at a time, until all streams have its bytes.
    Workers(usize),
    /// The same, and each stream writes the bytes to a socket that is never read: the work that a second core can share.
    Senders(usize),
}

impl InProcess {
    /// Prints what [`parse`] reads.
    pub(crate) fn measure(self) {
        let workers = if let Self::Workers(count) | Self::Senders(count) = self { count } else { 1 };
        machine::pin(if workers > 1 { &[machine::SERVER, machine::CLIENTS] } else { &[machine::SERVER] });
        let figures = runtime(workers).block_on(async {
            match self {
                Self::Publish { batch } => publish(batch).await,
                Self::Channels(channels) => deliver(channels).await,
                Self::ByHand(channels) => deliver_by_hand(channels),
                // Spawned, because this thread is not a worker.
                Self::Workers(_) => tokio::spawn(fan_out(io::sink, 3_000)).await.expect("no panic"),
                Self::Senders(_) => {
                    machine::raise_file_limit();
                    let (listener, mut unread) = (TcpListener::bind("127.0.0.1:0").expect("a port"), Vec::new());
                    // Few enough events that they fit into a socket's buffers.
                    tokio::spawn(fan_out(move || unread_socket(&listener, &mut unread), 200)).await.expect("no panic")
                }
            }
        });
        println!("{figures}");
    }
}

/// The same runtime as in the servers.
fn runtime(workers: usize) -> Runtime {
    let mut runtime = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    runtime.worker_threads(workers).enable_all().build().expect("a runtime")
}

/// Parses the cost in microseconds and the events per second.
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
    // Few events per channel, and all of them published before the clock starts: growing would cost new memory, which does not
    // depend on the number of channels.
    let store = MemoryStore::new(Retention::default().events(KEPT));
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(KEPT as usize * 256));
    let mut readers = Vec::with_capacity(count);
    for at in 0..count {
        let channel = Channel::new(format!("c{at}")).expect("a name");
        let reader = hub.subscribe(Subscription::new(&channel)).await.expect("a reader");
        readers.push((channel, reader));
    }
    for _ in 0..2 * KEPT {
        for (channel, reader) in &mut readers {
            hub.publish(channel, event()).await.expect("published");
            let delivery = reader.next().await.expect("not the end").expect("the store works");
            assert!(matches!(delivery, Delivery::Events(events) if events.len() == 1), "one event");
            park(reader);
        }
    }
    let (events, clock) = (rounds(count), Clock::start());
    for at in 0..events {
        let (channel, reader) = &mut readers[at % count];
        hub.publish(channel, event()).await.expect("published");
        let delivery = poll_fn(|cx| Pin::new(&mut *reader).poll_next(cx)).await.expect("not the end");
        assert!(matches!(delivery, Ok(Delivery::Events(events)) if events.len() == 1), "one event");
        park(reader);
    }
    clock.per(events)
}

fn deliver_by_hand(count: usize) -> String {
    let (mut channels, mut readers) = (HashMap::new(), Vec::with_capacity(count));
    for at in 0..count {
        let (sender, reader) = broadcast::channel::<Arc<str>>(16);
        channels.insert(format!("c{at}"), sender);
        readers.push((format!("c{at}"), reader));
    }
    let (events, clock) = (rounds(count), Clock::start());
    for at in 0..events {
        let (channel, reader) = &mut readers[at % count];
        channels[channel].send("x".repeat(100).into()).expect("a reader");
        assert_eq!(reader.try_recv().map(|text| text.len()), Ok(100), "one event");
        let mut more = pin!(reader.recv());
        assert!(more.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "more than was published");
    }
    clock.per(events)
}

/// Events retained per channel.
const KEPT: u64 = 4;

fn rounds(channels: usize) -> usize {
    channels.max(if cfg!(debug_assertions) { 100 } else { 200_000 })
}

async fn fan_out<W: Write + Send + 'static>(mut open: impl FnMut() -> W, events: usize) -> String {
    let events = if cfg!(debug_assertions) { 20 } else { events };
    let hub = Hub::new(MemoryStore::default());
    let channel = Channel::new("a").expect("a name");
    // How many streams have not yielded the event yet, and a notification when all have.
    let due = Arc::new((AtomicUsize::new(0), Notify::new()));
    for _ in 0..READERS {
        let mut stream = hub.sse(Subscription::new(&channel)).await.expect("a stream");
        let (due, mut to) = (due.clone(), open());
        tokio::spawn(async move {
            while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut stream).poll_frame(cx)).await {
                let data = frame.into_data().expect("no trailers");
                to.write_all(&data).expect("has room");
                // Shorter data is the opening of the stream.
                if data.len() > 100 && due.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                    due.1.notify_one();
                }
            }
        });
    }
    let mut clock = Clock::start();
    for at in 0..events {
        if at == events / 10 {
            clock = Clock::start();
        }
        assert_eq!(due.0.swap(READERS, Ordering::AcqRel), 0, "more than was published");
        hub.publish(&channel, event()).await.expect("published");
        due.1.notified().await;
    }
    clock.per((events - events / 10) * READERS)
}

const READERS: usize = 1_000;

fn unread_socket(listener: &TcpListener, unread: &mut Vec<TcpStream>) -> TcpStream {
    unread.push(TcpStream::connect(listener.local_addr().expect("an address")).expect("accepted"));
    let (stream, _) = listener.accept().expect("connected");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_nonblocking(true).expect("non-blocking");
    stream
}

/// Polls once more, as a reader's task does before it waits.
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
            Self::ByHand(count) => write!(f, "broadcast channels: {count}"),
            Self::Workers(count) => write!(f, "workers: {count}"),
            Self::Senders(count) => write!(f, "workers that send: {count}"),
        }
    }
}

impl FromStr for InProcess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, count) = text.rsplit_once(' ').unwrap_or_default();
        let count = count.parse().map_err(|_| format!("{text:?} has no number"))?;
        match what {
            "batches of" => Ok(Self::Publish { batch: count }),
            "channels:" => Ok(Self::Channels(count)),
            "broadcast channels:" => Ok(Self::ByHand(count)),
            "workers:" => Ok(Self::Workers(count)),
            "workers that send:" => Ok(Self::Senders(count)),
            _ => Err(format!("unknown measurement {text:?}")),
        }
    }
}
