//! The list of scenarios.

use std::time::Duration;

use super::{Job, Scenario, Unit, Who};
use crate::{
    in_process::InProcess,
    load::{Pace, Span, Transport},
    options::Length,
    peer::{
        Peer::{
            self, AxumBare, AxumNothing, Floor, FloorJoin, HandRolled, HyperBare, HyperNothing, Nchan, OursAxum,
            OursHyper,
        },
        Settings,
    },
};

const DELIVERY: Unit = Unit::Micros("delivery");

/// All scenarios; a quick run has few readers and events.
pub(crate) fn all(length: Length) -> Vec<Scenario> {
    let scale = Scale(length);
    [live(scale), polls(scale), returning(scale), idle(scale), channels(scale), publishing(scale), company(scale)]
        .into_iter()
        .flatten()
        .collect()
}

#[derive(Clone, Copy)]
struct Scale(Length);

impl Scale {
    fn readers(self, whole: usize) -> usize {
        if self.0 == Length::Quick { whole.min(20) } else { whole }
    }

    fn span(self, millis: u64) -> Span {
        match self.0 {
            Length::Quick => Span { time: Duration::ZERO, events: 20 },
            Length::Whole => Span { time: Duration::from_millis(millis), events: 32 },
        }
    }

    fn fan_out(self, transport: Transport, readers: usize, pace: Pace) -> Job {
        let span = self.span(if readers > 1_000 { 1_500 } else { 900 });
        Job::FanOut { transport, readers: self.readers(readers), channels: 1, pace, span }
    }
}

const STREAMING: [Peer; 5] = [Floor, OursHyper, OursAxum, HandRolled, Nchan];

fn live(scale: Scale) -> Vec<Scenario> {
    let one_at_a_time = |readers| scale.fan_out(Transport::Sse, readers, Pace::Window(1));
    let burst = scale.fan_out(Transport::Sse, 1_000, Pace::Window(16));
    vec![
        Scenario::new("SSE, 100 readers, one event at a time", DELIVERY).peers(&STREAMING, one_at_a_time(100)),
        Scenario::new("SSE, 1 000 readers, one event at a time", DELIVERY).peers(&STREAMING, one_at_a_time(1_000)),
        Scenario::new("SSE, 10 000 readers, one event at a time", DELIVERY).peers(&STREAMING, one_at_a_time(10_000)),
        Scenario::new("SSE, 1 000 readers, 16 events in flight", DELIVERY)
            .peers(&[FloorJoin, Floor, OursHyper, OursAxum, HandRolled, Nchan], burst),
    ]
}

fn polls(scale: Scale) -> Vec<Scenario> {
    let polls = |pace| scale.fan_out(Transport::LongPoll, 1_000, pace);
    vec![
        Scenario::new("long poll, 1 000 clients, one event at a time", DELIVERY)
            .peers(&[Floor, HyperBare, OursHyper, AxumBare, OursAxum, Nchan], polls(Pace::Window(1))),
        Scenario::new("long poll, 1 000 clients, bursts of 16", DELIVERY)
            .peers(&[FloorJoin, OursHyper, OursAxum, Nchan], polls(Pace::Bursts(16))),
    ]
}

fn returning(scale: Scale) -> Vec<Scenario> {
    let resume = Job::Resume { events: scale.readers(1_000) as u64, span: scale.span(800) };
    vec![Scenario::new("resume with 1 000 events of history", Unit::Micros("resume")).peers(&STREAMING, resume)]
}

fn idle(scale: Scale) -> Vec<Scenario> {
    let stream = Job::Idle { transport: Transport::Sse, readers: scale.readers(10_000) };
    let poll = Job::Idle { transport: Transport::LongPoll, readers: scale.readers(10_000) };
    let unit = Unit::Bytes("connection");
    vec![
        Scenario::new("SSE, 10 000 idle", unit)
            .at_most(2)
            .peers(&[HyperNothing, OursHyper], stream)
            .peers(&[AxumNothing, OursAxum, HandRolled], stream)
            .peers(&[Nchan], stream),
        Scenario::new("long poll, 10 000 parked", unit)
            .at_most(2)
            .peers(&[HyperNothing, OursHyper], poll)
            .peers(&[AxumNothing, OursAxum], poll)
            .peers(&[Nchan], poll),
    ]
}

/// Each event goes to the next channel, which has one reader. Without nchan, which stopped delivering in the first of these (its
/// message ids are a second and a small number within it; whether that number overflowed was not investigated).
fn channels(scale: Scale) -> Vec<Scenario> {
    let job = |channels| {
        let channels = scale.readers(channels);
        let (transport, pace) = (Transport::Sse, Pace::Window(16));
        Job::FanOut { transport, readers: channels, channels, pace, span: scale.span(900) }
    };
    let unit = Unit::Micros("publish and delivery");
    let peers = [Floor, OursHyper, OursAxum];
    let mut bare = Scenario::new("1, 1 000 and 100 000 channels with a reader each, in process", unit).at_most(3);
    for channels in [1, 1_000, 100_000].map(|channels| scale.readers(channels)) {
        // With more channels, less of their data is in the caches, also for the hand-written map.
        let (hand, ours) = (InProcess::ByHand(channels), InProcess::Channels(channels));
        let base = bare.runs.len();
        bare = bare.run(hand.to_string(), Who::InProcess, Job::InProcess(hand), None);
        bare = bare.run(format!("ours, {ours}"), Who::InProcess, Job::InProcess(ours), Some(base));
    }
    vec![
        Scenario::new("1 channel with a reader, 16 events in flight", unit).at_most(3).peers(&peers, job(1)),
        Scenario::new("100 channels with a reader each, 16 events in flight", unit).at_most(3).peers(&peers, job(100)),
        Scenario::new("10 000 channels with a reader each, 16 events in flight", unit)
            .at_most(3)
            .peers(&peers, job(10_000)),
        bare,
    ]
}

fn publishing(scale: Scale) -> Vec<Scenario> {
    let peers = [AxumNothing, OursAxum, OursHyper, HandRolled, Nchan];
    let publish = |window| Job::Publish { window, span: scale.span(700) };
    let batches = InProcess::Publish { batch: 16 };
    let unit = Unit::Micros("event");
    vec![
        Scenario::new("publish over HTTP, one at a time", unit).peers(&peers, publish(1)),
        Scenario::new("publish over HTTP, 16 in flight", unit).peers(&peers, publish(16)),
        Scenario::new("publish in process", unit).run(
            format!("ours, {batches}"),
            Who::InProcess,
            Job::InProcess(batches),
            None,
        ),
    ]
}

/// Readers next to clients that never read, and several workers.
fn company(scale: Scale) -> Vec<Scenario> {
    let readers = scale.readers(1_000);
    let paced = Pace::PerSecond(100);
    let latency = Job::FanOut { transport: Transport::Sse, readers, channels: 1, pace: paced, span: scale.span(2_000) };
    let mut unread =
        Scenario::new("1 000 readers, 100 events a second, with some clients that never read", DELIVERY).at_most(3);
    let mut workers =
        Scenario::new("SSE, 1 000 readers, one worker, and two that share a core with the clients", DELIVERY)
            .at_most(3);
    for peer in [OursHyper, OursAxum] {
        let name = peer.name();
        let base = unread.runs.len();
        for count in [0, 1, 1_000].map(|count| scale.readers(count)) {
            let job = Job::Unread { unread: count, readers, pace: paced, span: scale.span(2_000) };
            let settings = Settings { send_buffer: 32 << 10, ..Settings::default() };
            unread =
                unread.run(format!("{name}, {count} that never read"), Who::Server(peer, settings), job, Some(base));
        }
        let base = workers.runs.len();
        for count in [1, 2] {
            let settings = Settings { workers: count, ..Settings::default() };
            let job = scale.fan_out(Transport::Sse, 1_000, Pace::Window(4));
            workers = workers.run(format!("{name}, workers: {count}"), Who::Server(peer, settings), job, Some(base));
        }
    }
    let mut bare = Scenario::new("SSE, 1 000 readers, in process, one worker and two", DELIVERY);
    for workers in [InProcess::Workers, InProcess::Senders] {
        let base = bare.runs.len();
        for what in [1, 2].map(workers) {
            bare = bare.run(format!("ours, {what}"), Who::InProcess, Job::InProcess(what), Some(base));
        }
    }
    vec![
        Scenario::new("SSE, 1 000 readers, 100 events a second", DELIVERY).at_most(3).peers(&STREAMING, latency),
        unread,
        workers,
        bare,
    ]
}
