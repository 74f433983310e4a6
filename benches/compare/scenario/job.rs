//! What a run does, and its figures.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    in_process::{self, InProcess},
    load::{self, Load, Pace, Span, Transport, Unread},
    process::{self, Server},
    scenario::{Run, Who},
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Job {
    /// Each reader gets every event of its channel.
    FanOut { transport: Transport, readers: usize, channels: usize, pace: Pace, span: Span },
    /// The same with some clients that never read; also measures the server's memory.
    Unread { unread: usize, readers: usize, pace: Pace, span: Span },
    /// Clients connect, read this many events of history, and disconnect.
    Resume { events: u64, span: Span },
    /// Memory per waiting connection.
    Idle { transport: Transport, readers: usize },
    /// Publishing over HTTP without readers.
    Publish { window: u64, span: Span },
    /// Without sockets.
    InProcess(InProcess),
}

/// The figures of a run.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// In the scenario's unit.
    pub(crate) cost: f64,
    /// Deliveries, resumes or publishes per second.
    pub(crate) rate: Option<f64>,
    /// From publish to the last reader of each event, in milliseconds, in order.
    pub(crate) latencies: Vec<f64>,
    /// By how much the server's memory grew during the run, in bytes.
    pub(crate) growth: Option<f64>,
}

impl Run {
    pub(crate) fn measure(&self) -> Figures {
        let server = match self.who {
            Who::Server(peer, settings) => Server::start(peer, settings),
            Who::InProcess => return Figures::in_process(&self.job),
        };
        match self.job {
            Job::FanOut { transport, readers, channels, pace, span } => {
                let mut load = Load::connect(server.addr, readers, channels, transport);
                load.settle();
                fan_out(&server, &mut load, pace, span)
            }
            Job::Unread { unread, readers, pace, span } => with_unread(&server, unread, readers, pace, span),
            Job::Resume { events, span } => {
                let id = load::id_of_the_first_event(server.addr);
                let mut publisher = Load::connect(server.addr, 0, 1, Transport::Sse);
                publisher.publish_from(1, events);
                load::resume(server.addr, &id, events, 16, span.warm());
                counted(&server, || load::resume(server.addr, &id, events, 16, span))
            }
            Job::Idle { transport, readers } => idle(&server, transport, readers),
            Job::Publish { window, span } => {
                let mut load = Load::connect(server.addr, 0, 1, Transport::Sse);
                load.publish_only(window, span.warm());
                counted(&server, || load.publish_only(window, span))
            }
            Job::InProcess(_) => unreachable!("without a server"),
        }
    }
}

fn counted(server: &Server, act: impl FnOnce() -> u64) -> Figures {
    let (cpu, start) = (server.cpu(), Instant::now());
    let count = act() as f64;
    let cost = (server.cpu() - cpu) * 1e6 / count;
    Figures { cost, rate: Some(count / start.elapsed().as_secs_f64()), latencies: Vec::new(), growth: None }
}

fn fan_out(server: &Server, load: &mut Load, pace: Pace, span: Span) -> Figures {
    load.run(pace, span.warm());
    let figures = counted(server, || load.run(pace, span) * load.readers_of_each());
    let mut latencies: Vec<_> = load.latencies.iter().map(|latency| latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    Figures { latencies, ..figures }
}

fn with_unread(server: &Server, unread: usize, readers: usize, pace: Pace, span: Span) -> Figures {
    let mut load = Load::connect(server.addr, readers, 1, Transport::Sse);
    let mut unread = Unread::connect(server.addr, unread);
    unread.wait_for_heads();
    load.settle();
    load.run(pace, span.warm());
    let before = server.memory();
    load.fill(FILLERS, FILLER); // more than the sockets hold, so that clients that never read are behind from here on
    let figures = fan_out(server, &mut load, pace, span);
    Figures { growth: Some(server.memory() - before), ..figures }
}

fn idle(server: &Server, transport: Transport, readers: usize) -> Figures {
    let connect = |count| {
        let mut load = Load::connect(server.addr, count, 1, transport);
        load.wait_for_heads();
        let mut cpu = -1.0;
        // One more event, because a connection in use has seen some; then wait until the server is idle.
        load.publish(0, load::EVENT);
        while server.cpu() - cpu > 0.001 {
            cpu = server.cpu();
            load.turn_for(Duration::from_millis(100));
        }
        load
    };
    let _first = connect(readers.min(100));
    let before = server.memory();
    let _load = connect(readers);
    Figures { cost: (server.memory() - before) / readers as f64, rate: None, latencies: Vec::new(), growth: None }
}

impl Figures {
    fn in_process(job: &Job) -> Self {
        let Job::InProcess(what) = job else { unreachable!("only jobs without sockets run without a server") };
        let text = process::measured(&[&what.to_string()]);
        let (cost, rate) = in_process::parse(&text).unwrap_or_else(|| panic!("{what} failed: {text:?}"));
        Self { cost, rate: Some(rate), latencies: Vec::new(), growth: None }
    }

    /// The latency that this share of events did not exceed.
    pub(crate) fn latency(&self, share: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        self.latencies.get((last as f64 * share).round() as usize).copied()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10.2}", self.cost)?;
        if let Some(rate) = self.rate {
            write!(f, " {rate:10.0}/s")?;
        }
        if let (Some(median), Some(high)) = (self.latency(0.5), self.latency(0.99)) {
            write!(f, "  p50 {median:.2} ms, p99 {high:.2} ms")?;
        }
        if let Some(growth) = self.growth {
            write!(f, "  memory {:+.0} KiB", growth / 1024.0)?;
        }
        Ok(())
    }
}

/// How many events fill the sockets of clients that never read.
const FILLERS: usize = 40;
/// The size of such an event in bytes.
const FILLER: usize = 16 << 10;
