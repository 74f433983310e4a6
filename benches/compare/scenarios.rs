//! What is measured.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    load::{self, Load, Transport},
    peer::Peer,
};

/// How much is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Enough to see that deliveries are right.
    Quick,
    /// Enough to measure.
    Whole,
}

pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// Everybody gets every event; at most `window` events are in flight.
    FanOut { transport: Transport, readers: usize, events: u64, window: usize },
    /// A client connects, gets `events` of history and leaves.
    Resume { events: u64, times: usize },
    /// Bytes of the server per connection that waits.
    Idle { transport: Transport, readers: usize },
    /// Publishing over HTTP where nobody listens.
    Publish { events: u64, window: u64 },
}

/// What a run gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Microseconds of the server's CPU per delivery, resume or publish; bytes per connection of an idle run.
    pub(crate) cost: f64,
    /// Deliveries, resumes or publishes per second.
    pub(crate) rate: f64,
    /// From publish to the last reader, in milliseconds: median and 99th percentile.
    pub(crate) latency: Option<(f64, f64)>,
}

impl Scenario {
    pub(crate) fn all(length: Length) -> Vec<Self> {
        let quick = length == Length::Quick;
        use Transport::{LongPoll, Sse};
        let fan_out = |transport, readers: usize, window| {
            let kind = match transport {
                Sse => "SSE",
                LongPoll => "long poll",
            };
            let deliveries = if quick {
                2_000
            } else if window > 1 {
                2_000_000
            } else {
                400_000
            };
            let events = (deliveries / readers as u64).max(16);
            let name = format!("{kind}, {readers} readers, {window} in flight");
            Self { name, kind: Kind::FanOut { transport, readers, events, window } }
        };
        let idle = |transport, name: &str, readers| Self {
            name: format!("{name}, {readers} idle: bytes"),
            kind: Kind::Idle { transport, readers },
        };
        if quick {
            let resume = Self { name: "resume, 100 events".into(), kind: Kind::Resume { events: 100, times: 50 } };
            let publish = Self { name: "publish".into(), kind: Kind::Publish { events: 200, window: 16 } };
            return vec![fan_out(Sse, 50, 1), fan_out(Sse, 50, 16), fan_out(LongPoll, 50, 1), resume, publish];
        }
        vec![
            fan_out(Sse, 100, 1),
            fan_out(Sse, 1_000, 1),
            fan_out(Sse, 8_000, 1),
            fan_out(Sse, 1_000, 16),
            fan_out(LongPoll, 1_000, 1),
            fan_out(LongPoll, 1_000, 16),
            Self { name: "resume, 1000 events".into(), kind: Kind::Resume { events: 1_000, times: 4_000 } },
            Self { name: "publish, 1 in flight".into(), kind: Kind::Publish { events: 50_000, window: 1 } },
            Self { name: "publish, 16 in flight".into(), kind: Kind::Publish { events: 100_000, window: 16 } },
            idle(Sse, "SSE", 8_000),
            idle(LongPoll, "long poll", 8_000),
        ]
    }

    pub(crate) fn run(&self, peer: Peer) -> Figures {
        let server = peer.start();
        let addr = server.addr;
        match self.kind {
            Kind::FanOut { transport, readers, events, window } => {
                let mut load = Load::connect(addr, readers, transport);
                load.settle();
                load.run(16.max(events / 10), window);
                load.latencies.clear();
                let (cpu, start) = (server.cpu(), Instant::now());
                load.run(events, window);
                let deliveries = events as f64 * load.readers() as f64;
                Figures::new(server.cpu() - cpu, start.elapsed(), deliveries, Some(&mut load.latencies))
            }
            Kind::Resume { events, times } => {
                load::publish(addr, 0, 1, 1);
                let id = load::id_of_the_only_event(addr);
                load::publish(addr, 1, events, 16);
                load::resume(addr, &id, 1, events, 16, times / 10);
                let (cpu, start) = (server.cpu(), Instant::now());
                load::resume(addr, &id, 1, events, 16, times);
                Figures::new(server.cpu() - cpu, start.elapsed(), times as f64, None)
            }
            Kind::Idle { transport, readers } => {
                let mut warm = Load::connect(addr, 100, transport);
                warm.settle();
                let before = server.memory();
                let mut load = Load::connect(addr, readers, transport);
                load.settle();
                let cost = (server.memory() - before) / readers as f64;
                Figures { cost, rate: 0.0, latency: None }
            }
            Kind::Publish { events, window } => {
                load::publish(addr, 0, events / 10, window);
                let (cpu, start) = (server.cpu(), Instant::now());
                load::publish(addr, events / 10, events, window);
                Figures::new(server.cpu() - cpu, start.elapsed(), events as f64, None)
            }
        }
    }
}

impl Figures {
    fn new(cpu: f64, time: Duration, count: f64, latencies: Option<&mut Vec<Duration>>) -> Self {
        let latency = latencies.map(|latencies| {
            latencies.sort();
            let at = |share: f64| {
                let index = ((latencies.len() - 1) as f64 * share).round() as usize;
                latencies[index].as_secs_f64() * 1e3
            };
            (at(0.5), at(0.99))
        });
        Self { cost: cpu * 1e6 / count, rate: count / time.as_secs_f64(), latency }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10.2} {:10.0}/s", self.cost, self.rate)?;
        match self.latency {
            Some((median, high)) => write!(f, "  p50 {median:.2} ms, p99 {high:.2} ms"),
            None => Ok(()),
        }
    }
}
