//! Which nodes wait for a turn at which channel, and the messages that they exchange. Knows no server.

use std::{collections::HashMap, sync::Mutex};

use tokio::{
    sync::Notify,
    time::{Duration, Instant, timeout_at},
};

use super::{place, sync::lock};
use crate::channel::Channel;

/// The nodes that wait for a turn, by channel.
pub(super) struct Turns {
    /// The id of this node.
    pub(super) node: u64,
    channels: Mutex<HashMap<Channel, ChannelTurns>>,
    changed: Notify,
}

#[derive(Default)]
struct ChannelTurns {
    /// Other nodes: since when they have waited, and until when that counts.
    others: HashMap<u64, (Instant, Instant)>,
    /// Until when this node asks for a turn before every attempt.
    contended_until: Option<Instant>,
}

impl ChannelTurns {
    /// Until when a node that started to wait earlier goes first.
    fn blocked_until(&self, started: Instant, now: Instant) -> Option<Instant> {
        self.others.values().filter(|(since, until)| *since < started && *until > now).map(|(_, until)| *until).max()
    }

    fn is_over(&self, now: Instant) -> bool {
        self.others.values().all(|(_, until)| *until <= now) && self.contended_until.is_none_or(|until| until <= now)
    }
}

/// What nodes tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnMessage {
    /// The node has waited this long, and asks the others to hold back for this long.
    Ask { waited: Duration, hold: Duration },
    /// The node has had its turn.
    Done,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { node: crate::store::resume::fresh_epoch(), channels: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn receive(&self, channel: Channel, node: u64, message: TurnMessage) {
        let now = Instant::now();
        let mut channels = lock(&self.channels);
        if channels.len() >= MAX_CHANNELS && !channels.contains_key(&channel) {
            channels.retain(|_, turns| !turns.is_over(now));
        }
        match message {
            TurnMessage::Ask { waited, hold } if channels.len() < MAX_CHANNELS || channels.contains_key(&channel) => {
                let turns = channels.entry(channel).or_default();
                turns.others.retain(|_, (_, until)| *until > now);
                if turns.others.len() < MAX_WAITING {
                    let since = now.checked_sub(waited.min(MAX_WAIT)).unwrap_or(now);
                    turns.others.insert(node, (since, now + hold.min(MAX_HOLD)));
                }
            }
            TurnMessage::Ask { .. } => {}
            TurnMessage::Done => {
                if let Some(turns) = channels.get_mut(&channel) {
                    turns.others.remove(&node);
                }
            }
        }
        drop(channels);
        self.changed.notify_waiters();
    }

    /// Whether no node is known to compete for the channel.
    pub(super) fn is_uncontended(&self, channel: &Channel) -> bool {
        let channels = lock(&self.channels);
        channels.is_empty() || !channels.contains_key(channel)
    }

    /// Waits until no other node has waited since before `started`; returns whether one had.
    pub(super) async fn wait(&self, channel: &Channel, started: Instant, deadline: Instant) -> bool {
        let mut waited = false;
        loop {
            let changed = self.changed.notified();
            let blocked_until =
                lock(&self.channels).get(channel).and_then(|turns| turns.blocked_until(started, Instant::now()));
            let Some(until) = blocked_until.filter(|_| Instant::now() < deadline) else { return waited };
            waited = true;
            _ = timeout_at(until.min(deadline), changed).await;
        }
    }

    pub(super) fn is_contended(&self, channel: &Channel) -> bool {
        let channels = lock(&self.channels);
        channels.get(channel).and_then(|turns| turns.contended_until).is_some_and(|until| until > Instant::now())
    }

    pub(super) fn note_contended(&self, channel: &Channel) {
        let mut channels = lock(&self.channels);
        if channels.len() < MAX_CHANNELS || channels.contains_key(channel) {
            channels.entry(channel.clone()).or_default().contended_until = Some(Instant::now() + CONTENDED_FOR);
        }
    }
}

/// Not below the stream's subjects, so that nothing of this is stored.
pub(super) fn subject(prefix: &str) -> String {
    format!("{prefix}.turns")
}

pub(super) fn to_text(channel: &Channel, node: u64, message: TurnMessage) -> String {
    let token = place::token(channel);
    match message {
        TurnMessage::Ask { waited, hold } => {
            format!("ask {token} {node:x} {} {}", waited.as_millis(), hold.as_millis())
        }
        TurnMessage::Done => format!("done {token} {node:x}"),
    }
}

pub(super) fn parse(text: &str) -> Option<(Channel, u64, TurnMessage)> {
    let mut words = text.split(' ');
    let what = words.next()?;
    let channel = place::channel_of(words.next()?)?;
    let node = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut millis = || words.next()?.parse().ok().map(Duration::from_millis);
    let message = match what {
        "ask" => TurnMessage::Ask { waited: millis()?, hold: millis()? },
        "done" => TurnMessage::Done,
        _ => return None,
    };
    Some((channel, node, message))
}

/// How long a node keeps asking before its attempts.
const CONTENDED_FOR: Duration = Duration::from_secs(5);

/// The longest that others hold back for a node that asked: it may be gone.
pub(super) const MAX_HOLD: Duration = Duration::from_secs(1);

pub(super) const MIN_HOLD: Duration = Duration::from_millis(50);

/// The longest wait that a node can claim.
const MAX_WAIT: Duration = Duration::from_secs(60);

const MAX_CHANNELS: usize = 4_096;
const MAX_WAITING: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn channel() -> Channel {
        Channel::new("a.*").unwrap()
    }

    const HOLD: Duration = Duration::from_millis(300);

    #[test]
    fn turn_messages_read_back() {
        let ask = TurnMessage::Ask { waited: Duration::from_millis(7), hold: HOLD };
        for message in [ask, TurnMessage::Done] {
            assert_eq!(parse(&to_text(&channel(), u64::MAX, message)), Some((channel(), u64::MAX, message)));
        }
        for bad in ["", "ask", "ask YQ 1", "ask YQ 1 2", "done ! 1", "other YQ 1 2 3", "ask YQ x 2 3"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_started_later_waits_until_the_other_is_done_or_gone() {
        let turns = Turns::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        let started = Instant::now();
        assert!(!turns.wait(&channel(), started, deadline).await);
        let ask = |waited| TurnMessage::Ask { waited: Duration::from_millis(waited), hold: HOLD };
        turns.receive(channel(), 1, ask(40));
        // A node that started earlier does not wait.
        assert!(!turns.wait(&channel(), started - Duration::from_millis(50), deadline).await);
        assert!(!turns.wait(&Channel::new("other").unwrap(), started, deadline).await);
        assert!(turns.wait(&channel(), started, deadline).await);
        assert_eq!(started.elapsed(), HOLD, "the other node is gone");
        turns.receive(channel(), 1, ask(1_000));
        turns.receive(channel(), 2, ask(1_000));
        turns.receive(channel(), 1, TurnMessage::Done);
        let of = channel();
        let (wait, ()) = tokio::join!(turns.wait(&of, started, deadline), async {
            sleep(Duration::from_millis(100)).await;
            turns.receive(channel(), 2, TurnMessage::Done);
        });
        assert!(wait && started.elapsed() == HOLD + Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_waiting_nodes_and_channels_is_bounded() {
        let turns = Turns::new();
        let ask = TurnMessage::Ask { waited: HOLD, hold: Duration::from_secs(3_600) };
        for n in 0..MAX_CHANNELS as u64 + 100 {
            turns.receive(Channel::new(n.to_string()).unwrap(), 1, ask);
            turns.receive(channel(), n, ask);
        }
        assert!(lock(&turns.channels).len() <= MAX_CHANNELS);
        assert!(lock(&turns.channels).get(&channel()).is_none_or(|turns| turns.others.len() <= MAX_WAITING));
        tokio::time::advance(MAX_HOLD * 2).await;
        turns.receive(Channel::new("new").unwrap(), 1, ask);
        assert_eq!(lock(&turns.channels).len(), 1);
    }
}
