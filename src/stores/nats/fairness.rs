//! Turns at a channel that several nodes write to. The server takes a message only after the one that it was decided on, so a
//! node nearby would always come before one far away. Who was overtaken says so to all, and those who began later wait a
//! little. That is a courtesy, by messages that nobody stores: where one is lost, a turn comes later, and nothing is wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep, timeout_at},
};

use super::{handle::Inner, place, sync::lock, timing::jittered, writing::Writer};
use crate::channel::Channel;

/// Who waits for a turn, at which channel.
pub(super) struct Turns {
    /// This node among all.
    node: u64,
    channels: Mutex<HashMap<Channel, ChannelTurns>>,
    changed: Notify,
}

#[derive(Default)]
struct ChannelTurns {
    /// Other nodes, since when they wait, and how long that holds.
    others: HashMap<u64, (Instant, Instant)>,
    /// Until when this node asks for a turn before it tries.
    contended_until: Option<Instant>,
}

impl ChannelTurns {
    /// Until when somebody who began to wait earlier is let go first.
    fn blocked_until(&self, begun: Instant, now: Instant) -> Option<Instant> {
        self.others.values().filter(|(since, until)| *since < begun && *until > now).map(|(_, until)| *until).max()
    }

    fn is_over(&self, now: Instant) -> bool {
        self.others.values().all(|(_, until)| *until <= now) && self.contended_until.is_none_or(|until| until <= now)
    }
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnMessage {
    /// It has waited so long, and asks others to wait for so long.
    Ask { waited: Duration, hold: Duration },
    /// It had its turn.
    Done,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { node: crate::store::resume::fresh_epoch(), channels: Mutex::default(), changed: Notify::new() }
    }

    fn receive(&self, channel: Channel, node: u64, message: TurnMessage) {
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

    /// Whether nobody is known to wait, or to have to.
    fn is_uncontended(&self, channel: &Channel) -> bool {
        let channels = lock(&self.channels);
        channels.is_empty() || !channels.contains_key(channel)
    }

    /// Waits until nobody has waited longer than since `begun`; says whether anybody had.
    async fn wait(&self, channel: &Channel, begun: Instant, by: Instant) -> bool {
        let mut waited = false;
        loop {
            let changed = self.changed.notified();
            let blocked_until =
                lock(&self.channels).get(channel).and_then(|turns| turns.blocked_until(begun, Instant::now()));
            let Some(until) = blocked_until.filter(|_| Instant::now() < by) else { return waited };
            waited = true;
            _ = timeout_at(until.min(by), changed).await;
        }
    }

    fn is_contended(&self, channel: &Channel) -> bool {
        let channels = lock(&self.channels);
        channels.get(channel).and_then(|turns| turns.contended_until).is_some_and(|until| until > Instant::now())
    }

    fn note_contended(&self, channel: &Channel) {
        let mut channels = lock(&self.channels);
        if channels.len() < MAX_CHANNELS || channels.contains_key(channel) {
            channels.entry(channel.clone()).or_default().contended_until = Some(Instant::now() + CONTENDED_FOR);
        }
    }
}

impl Inner {
    async fn send_turn_message(&self, channel: &Channel, message: TurnMessage) {
        let text = to_text(channel, self.turns.node, message);
        self.connection.publish(subject(&self.settings.prefix), text.into()).await;
    }

    async fn ask_for_turn(&self, channel: &Channel, begun: Instant) {
        let hold = (self.connection.round_trip() * 6).clamp(MIN_HOLD, MAX_HOLD);
        self.send_turn_message(channel, TurnMessage::Ask { waited: begun.elapsed(), hold }).await;
    }
}

impl Writer {
    /// Lets those go first who have waited longer; and when others were faster again and again, asks them to wait.
    pub(super) async fn wait_for_turn(&mut self, overtaken: u32, by: Instant) {
        // Mostly nobody else is there, and this is all.
        if overtaken >= CONTENDED_AFTER || !self.inner.turns.is_uncontended(&self.channel) {
            Box::pin(self.negotiate_turn(overtaken, by)).await;
        }
    }

    async fn negotiate_turn(&mut self, overtaken: u32, by: Instant) {
        let inner = Arc::clone(&self.inner);
        let (turns, channel) = (&inner.turns, self.channel.clone());
        let begun = by.checked_sub(inner.settings.timeout).unwrap_or(by);
        let is_slow = overtaken >= CONTENDED_AFTER && begun.elapsed() >= SLOW_AFTER;
        if is_slow {
            turns.note_contended(&channel);
        }
        let asks = is_slow || turns.is_contended(&channel);
        if asks {
            self.asked = true;
            inner.ask_for_turn(&channel, begun).await;
        }
        let has_waited = turns.wait(&channel, begun, by - (by - begun) / 4).await;
        if asks {
            if has_waited {
                inner.ask_for_turn(&channel, begun).await;
            }
            // What others have sent already arrives before what is known is asked for.
            sleep((inner.connection.round_trip() / 8).clamp(Duration::from_millis(1), Duration::from_millis(10))).await;
        }
        if asks || has_waited {
            self.distrust_state();
        }
    }

    /// Tells those who were asked to wait that they may go on, whatever came of it.
    pub(super) async fn end_turn(&mut self) {
        if std::mem::take(&mut self.asked) {
            Box::pin(self.inner.send_turn_message(&self.channel, TurnMessage::Done)).await;
        }
    }
}

/// Hears what other nodes say, as long as the store is there.
pub(super) async fn listen(inner: Weak<Inner>) {
    loop {
        let Some(now) = inner.upgrade() else { return };
        let messages = now.connection.subscribe(subject(&now.settings.prefix)).await;
        drop(now);
        if let Ok(mut messages) = messages {
            loop {
                let next =
                    std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut messages), cx));
                // So that a store that nobody holds any more is not waited in.
                let next = tokio::time::timeout(CHECK_EVERY, next).await;
                let Some(inner) = inner.upgrade() else { return };
                let message = match next {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(_) => continue,
                };
                match std::str::from_utf8(&message.payload).ok().and_then(parse) {
                    Some((channel, node, message)) if node != inner.turns.node => {
                        inner.turns.receive(channel, node, message)
                    }
                    _ => {}
                }
            }
        }
        sleep(jittered(CHECK_EVERY)).await;
    }
}

/// Not below the stream's subjects: nothing of this is stored.
fn subject(prefix: &str) -> String {
    format!("{prefix}.turns")
}

fn to_text(channel: &Channel, node: u64, message: TurnMessage) -> String {
    let token = place::token(channel);
    match message {
        TurnMessage::Ask { waited, hold } => {
            format!("ask {token} {node:x} {} {}", waited.as_millis(), hold.as_millis())
        }
        TurnMessage::Done => format!("done {token} {node:x}"),
    }
}

fn parse(text: &str) -> Option<(Channel, u64, TurnMessage)> {
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

/// An append that was overtaken so often,
const CONTENDED_AFTER: u32 = 2;

/// and has waited for so long is far away, or one of very many.
const SLOW_AFTER: Duration = Duration::from_millis(25);

/// How long a node goes on to ask before it tries.
const CONTENDED_FOR: Duration = Duration::from_secs(5);

/// How long others wait at most for one that asked: it may be gone.
const MAX_HOLD: Duration = Duration::from_secs(1);
const MIN_HOLD: Duration = Duration::from_millis(50);

/// Who says to have waited longer is not believed.
const MAX_WAIT: Duration = Duration::from_secs(60);

const MAX_CHANNELS: usize = 4_096;
const MAX_WAITING: usize = 64;

const CHECK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        Channel::new("a.*").unwrap()
    }

    const HOLD: Duration = Duration::from_millis(300);

    #[test]
    fn what_is_said_reads_back() {
        let ask = TurnMessage::Ask { waited: Duration::from_millis(7), hold: HOLD };
        for message in [ask, TurnMessage::Done] {
            assert_eq!(parse(&to_text(&channel(), u64::MAX, message)), Some((channel(), u64::MAX, message)));
        }
        for bad in ["", "ask", "ask YQ 1", "ask YQ 1 2", "done ! 1", "other YQ 1 2 3", "ask YQ x 2 3"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_began_later_waits_until_the_other_is_done_or_gone() {
        let turns = Turns::new();
        let by = Instant::now() + Duration::from_secs(5);
        let begun = Instant::now();
        assert!(!turns.wait(&channel(), begun, by).await);
        let ask = |waited| TurnMessage::Ask { waited: Duration::from_millis(waited), hold: HOLD };
        turns.receive(channel(), 1, ask(40));
        // Who began before it does not wait.
        assert!(!turns.wait(&channel(), begun - Duration::from_millis(50), by).await);
        assert!(!turns.wait(&Channel::new("other").unwrap(), begun, by).await);
        assert!(turns.wait(&channel(), begun, by).await);
        assert_eq!(begun.elapsed(), HOLD, "it is gone");
        turns.receive(channel(), 1, ask(1_000));
        turns.receive(channel(), 2, ask(1_000));
        turns.receive(channel(), 1, TurnMessage::Done);
        let of = channel();
        let (wait, ()) = tokio::join!(turns.wait(&of, begun, by), async {
            sleep(Duration::from_millis(100)).await;
            turns.receive(channel(), 2, TurnMessage::Done);
        });
        assert!(wait && begun.elapsed() == HOLD + Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_bounded() {
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
