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

use super::{Inner, connection::jittered, lock, place, writing::Writer};
use crate::channel::Channel;

/// Who waits for a turn, at which channel.
pub(super) struct Turns {
    /// This node among all.
    node: u64,
    lines: Mutex<HashMap<Channel, Line>>,
    changed: Notify,
}

#[derive(Default)]
struct Line {
    /// Other nodes, since when they wait, and how long that holds.
    others: HashMap<u64, (Instant, Instant)>,
    /// Until when this node asks for a turn before it tries.
    contended: Option<Instant>,
}

impl Line {
    /// Until when somebody who began to wait earlier is let go first.
    fn blocked(&self, begun: Instant, now: Instant) -> Option<Instant> {
        self.others.values().filter(|(since, until)| *since < begun && *until > now).map(|(_, until)| *until).max()
    }

    fn is_over(&self, now: Instant) -> bool {
        self.others.values().all(|(_, until)| *until <= now) && self.contended.is_none_or(|until| until <= now)
    }
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// It has waited so long, and asks others to wait for so long.
    Ask { waited: Duration, hold: Duration },
    /// It had its turn.
    Done,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { node: crate::store::resume::fresh_epoch(), lines: Mutex::default(), changed: Notify::new() }
    }

    fn hear(&self, channel: Channel, node: u64, said: Said) {
        let now = Instant::now();
        let mut lines = lock(&self.lines);
        if lines.len() >= MAX_LINES && !lines.contains_key(&channel) {
            lines.retain(|_, line| !line.is_over(now));
        }
        match said {
            Said::Ask { waited, hold } if lines.len() < MAX_LINES || lines.contains_key(&channel) => {
                let line = lines.entry(channel).or_default();
                line.others.retain(|_, (_, until)| *until > now);
                if line.others.len() < MAX_WAITING {
                    let since = now.checked_sub(waited.min(MAX_WAIT)).unwrap_or(now);
                    line.others.insert(node, (since, now + hold.min(MAX_HOLD)));
                }
            }
            Said::Ask { .. } => {}
            Said::Done => {
                if let Some(line) = lines.get_mut(&channel) {
                    line.others.remove(&node);
                }
            }
        }
        drop(lines);
        self.changed.notify_waiters();
    }

    /// Whether nobody is known to wait, or to have to.
    fn is_free(&self, channel: &Channel) -> bool {
        let lines = lock(&self.lines);
        lines.is_empty() || !lines.contains_key(channel)
    }

    /// Waits until nobody has waited longer than since `begun`; says whether anybody had.
    async fn wait(&self, channel: &Channel, begun: Instant, by: Instant) -> bool {
        let mut waited = false;
        loop {
            let changed = self.changed.notified();
            let blocked = lock(&self.lines).get(channel).and_then(|line| line.blocked(begun, Instant::now()));
            let Some(until) = blocked.filter(|_| Instant::now() < by) else { return waited };
            waited = true;
            _ = timeout_at(until.min(by), changed).await;
        }
    }

    fn is_contended(&self, channel: &Channel) -> bool {
        let lines = lock(&self.lines);
        lines.get(channel).and_then(|line| line.contended).is_some_and(|until| until > Instant::now())
    }

    fn note_contended(&self, channel: &Channel) {
        let mut lines = lock(&self.lines);
        if lines.len() < MAX_LINES || lines.contains_key(channel) {
            lines.entry(channel.clone()).or_default().contended = Some(Instant::now() + CONTENDED);
        }
    }
}

impl Inner {
    async fn say(&self, channel: &Channel, said: Said) {
        let text = to_text(channel, self.turns.node, said);
        self.connection.publish(subject(&self.settings.prefix), text.into()).await;
    }

    async fn ask_for_turn(&self, channel: &Channel, begun: Instant) {
        let hold = (self.connection.round_trip() * 6).clamp(MIN_HOLD, MAX_HOLD);
        self.say(channel, Said::Ask { waited: begun.elapsed(), hold }).await;
    }
}

impl Writer {
    /// Lets those go first who have waited longer; and when others were faster again and again, asks them to wait.
    pub(super) async fn line_up(&mut self, overtaken: u32, by: Instant) {
        // Mostly nobody else is there, and this is all.
        if overtaken >= OFTEN || !self.inner.turns.is_free(&self.channel) {
            Box::pin(self.line_up_with_others(overtaken, by)).await;
        }
    }

    async fn line_up_with_others(&mut self, overtaken: u32, by: Instant) {
        let inner = Arc::clone(&self.inner);
        let (turns, channel) = (&inner.turns, self.channel.clone());
        let begun = by.checked_sub(inner.settings.timeout).unwrap_or(by);
        let is_slow = overtaken >= OFTEN && begun.elapsed() >= SLOW;
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
            self.ask_again();
        }
    }

    /// Tells those who were asked to wait that they may go on, whatever came of it.
    pub(super) async fn step_aside(&mut self) {
        if std::mem::take(&mut self.asked) {
            Box::pin(self.inner.say(&self.channel, Said::Done)).await;
        }
    }
}

/// Hears what other nodes say, as long as the store is there.
pub(super) async fn hear(inner: Weak<Inner>) {
    loop {
        let Some(now) = inner.upgrade() else { return };
        let heard = now.connection.subscribe(subject(&now.settings.prefix)).await;
        drop(now);
        if let Ok(mut heard) = heard {
            loop {
                let next =
                    std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut heard), cx));
                // So that a store that nobody holds any more is not waited in.
                let next = tokio::time::timeout(LOOK_EVERY, next).await;
                let Some(inner) = inner.upgrade() else { return };
                let message = match next {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(_) => continue,
                };
                match std::str::from_utf8(&message.payload).ok().and_then(parse) {
                    Some((channel, node, said)) if node != inner.turns.node => inner.turns.hear(channel, node, said),
                    _ => {}
                }
            }
        }
        sleep(jittered(LOOK_EVERY)).await;
    }
}

/// Not below the stream's subjects: nothing of this is stored.
fn subject(prefix: &str) -> String {
    format!("{prefix}.turns")
}

fn to_text(channel: &Channel, node: u64, said: Said) -> String {
    let token = place::token(channel);
    match said {
        Said::Ask { waited, hold } => format!("ask {token} {node:x} {} {}", waited.as_millis(), hold.as_millis()),
        Said::Done => format!("done {token} {node:x}"),
    }
}

fn parse(text: &str) -> Option<(Channel, u64, Said)> {
    let mut words = text.split(' ');
    let what = words.next()?;
    let channel = place::channel_of(words.next()?)?;
    let node = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut millis = || words.next()?.parse().ok().map(Duration::from_millis);
    let said = match what {
        "ask" => Said::Ask { waited: millis()?, hold: millis()? },
        "done" => Said::Done,
        _ => return None,
    };
    Some((channel, node, said))
}

/// An append that was overtaken so often,
const OFTEN: u32 = 2;

/// and has waited for so long is far away, or one of very many.
const SLOW: Duration = Duration::from_millis(25);

/// How long a node goes on to ask before it tries.
const CONTENDED: Duration = Duration::from_secs(5);

/// How long others wait at most for one that asked: it may be gone.
const MAX_HOLD: Duration = Duration::from_secs(1);
const MIN_HOLD: Duration = Duration::from_millis(50);

/// Who says to have waited longer is not believed.
const MAX_WAIT: Duration = Duration::from_secs(60);

const MAX_LINES: usize = 4_096;
const MAX_WAITING: usize = 64;

const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        Channel::new("a.*").unwrap()
    }

    const HOLD: Duration = Duration::from_millis(300);

    #[test]
    fn what_is_said_reads_back() {
        let ask = Said::Ask { waited: Duration::from_millis(7), hold: HOLD };
        for said in [ask, Said::Done] {
            assert_eq!(parse(&to_text(&channel(), u64::MAX, said)), Some((channel(), u64::MAX, said)));
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
        let ask = |waited| Said::Ask { waited: Duration::from_millis(waited), hold: HOLD };
        turns.hear(channel(), 1, ask(40));
        // Who began before it does not wait.
        assert!(!turns.wait(&channel(), begun - Duration::from_millis(50), by).await);
        assert!(!turns.wait(&Channel::new("other").unwrap(), begun, by).await);
        assert!(turns.wait(&channel(), begun, by).await);
        assert_eq!(begun.elapsed(), HOLD, "it is gone");
        turns.hear(channel(), 1, ask(1_000));
        turns.hear(channel(), 2, ask(1_000));
        turns.hear(channel(), 1, Said::Done);
        let of = channel();
        let (wait, ()) = tokio::join!(turns.wait(&of, begun, by), async {
            sleep(Duration::from_millis(100)).await;
            turns.hear(channel(), 2, Said::Done);
        });
        assert!(wait && begun.elapsed() == HOLD + Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_bounded() {
        let turns = Turns::new();
        let ask = Said::Ask { waited: HOLD, hold: Duration::from_secs(3_600) };
        for n in 0..MAX_LINES as u64 + 100 {
            turns.hear(Channel::new(n.to_string()).unwrap(), 1, ask);
            turns.hear(channel(), n, ask);
        }
        assert!(lock(&turns.lines).len() <= MAX_LINES);
        assert!(lock(&turns.lines).get(&channel()).is_none_or(|line| line.others.len() <= MAX_WAITING));
        tokio::time::advance(MAX_HOLD * 2).await;
        turns.hear(Channel::new("new").unwrap(), 1, ask);
        assert_eq!(lock(&turns.lines).len(), 1);
    }
}
