//! Notifies other nodes of moved heads. Every transaction that notifies takes a database-wide lock for its commit, so
//! this happens off the write path, in one task per process that combines what comes within a few milliseconds; only
//! when there is little to send does an append notify in its own transaction. Knows nothing of appends.
//!
//! Only positions are sent, never events: any role that can connect to the database may listen and notify, and a forged
//! hint only makes a node read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use tokio_postgres::types::Type;

use super::{database::Database, error::CallError};
use crate::{channel::Channel, cursor::Cursor, store::Head};

/// What waits to be sent.
#[derive(Default)]
pub(super) struct Notifier {
    /// The id of this node.
    node: String,
    pending: Mutex<Pending>,
    pace: Mutex<NotifyPace>,
    wake: Notify,
}

/// Whether an append may take the database-wide lock.
#[derive(Default)]
struct NotifyPace {
    /// When this node last notified.
    last_notified: Option<Instant>,
    /// Whether the last append was slow: slow disks, a distant standby, or contention for the lock.
    slow: bool,
}

#[derive(Default)]
struct Pending {
    heads: HashMap<Channel, Head>,
    /// There is too much to send, or a notification was lost.
    resync: bool,
}

impl Notifier {
    pub(super) fn new() -> Self {
        Self { node: format!("{:016x}", fastrand::u64(..)), ..Self::default() }
    }

    /// Adds a head, to be sent soon.
    pub(super) fn note(&self, channel: &Channel, head: Head) {
        let mut pending = self.lock();
        if !pending.resync {
            pending.heads.insert(channel.clone(), head);
            if pending.heads.len() > MAX_HEADS {
                *pending = Pending { heads: HashMap::new(), resync: true };
            }
        }
        drop(pending);
        self.wake.notify_one();
    }

    /// This node's id, if its only append may notify in its own transaction, which happens no more often than the task
    /// notifies.
    pub(super) fn try_notify_inline(&self) -> Option<&str> {
        let pending = self.lock();
        let mut pace = self.pace();
        let free = pending.heads.is_empty()
            && !pending.resync
            && !pace.slow
            && pace.last_notified.is_none_or(|last_notified| last_notified.elapsed() >= MIN_INTERVAL);
        if free {
            pace.last_notified = Some(Instant::now());
        }
        free.then_some(&self.node)
    }

    /// Records how long an append took.
    pub(super) fn note_pace(&self, took: Duration) {
        self.pace().slow = took >= MIN_INTERVAL;
    }

    /// Sends what was added, for ever: at once after a pause, then at most once per `MIN_INTERVAL`.
    pub(super) async fn run(self: Arc<Self>, database: Arc<Database>) {
        loop {
            self.wake.notified().await;
            let rested = self.pace().last_notified.map(|last_notified| last_notified + MIN_INTERVAL);
            if let Some(rested) = rested {
                sleep_until(rested).await;
            }
            let pending = std::mem::take(&mut *self.lock());
            let payloads = payloads(&self.node, pending);
            if payloads.is_empty() {
                continue;
            }
            if let Err(error) = notify(&database, payloads).await {
                tracing::debug!(error = ?error.into_read_error(), "cannot notify the other nodes; they will notice by comparing heads");
                self.lock().resync = true;
                self.wake.notify_one();
                sleep(RETRY_AFTER).await;
            }
            self.pace().last_notified = Some(Instant::now());
        }
    }

    /// Sends what is left, once: nothing will be added any more.
    pub(super) async fn finish(self: Arc<Self>, database: Arc<Database>) {
        let pending = std::mem::take(&mut *self.lock());
        let payloads = payloads(&self.node, pending);
        if !payloads.is_empty() {
            if let Err(error) = notify(&database, payloads).await {
                tracing::debug!(error = %error, "cannot notify the other nodes; they will notice by comparing heads");
            }
        }
    }

    /// Sends a notification that only this node's own listener needs.
    pub(super) async fn ping(&self, database: &Database) -> Result<(), CallError> {
        notify(database, vec![format!("{}\n{PING}", self.node)]).await
    }

    /// Parses the payload of a notification.
    pub(super) fn parse(&self, payload: &str) -> Notification {
        let mut lines = payload.split('\n');
        if lines.next() == Some(&self.node) {
            return Notification::Own;
        }
        let mut heads = Vec::new();
        for line in lines {
            match (line, hint(line)) {
                (PING, _) => {}
                (_, Some(hint)) => heads.push(hint),
                _ => return Notification::Resync,
            }
        }
        Notification::Heads(heads)
    }

    fn pace(&self) -> MutexGuard<'_, NotifyPace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a notification means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notification {
    /// This process sent it, and has told its watchers already.
    Own,
    Heads(Vec<(Channel, Head)>),
    Resync,
}

async fn notify(database: &Database, payloads: Vec<String>) -> Result<(), CallError> {
    let channel = &database.sql.schema;
    let params = [(channel as _, Type::TEXT), (&payloads as _, Type::TEXT_ARRAY)];
    database.write(&database.sql.notify, &params).await.map(drop)
}

/// One line for the sender, and one per head. As many payloads as fit into one statement, or a single one that says
/// there were too many.
fn payloads(node: &str, pending: Pending) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for (channel, head) in pending.heads {
        let line = format!("\n{}{}{channel}", head.cursor, if head.closed { CLOSED } else { OPEN });
        match payloads.last_mut() {
            Some(last) if last.len() + line.len() <= MAX_BYTES => last.push_str(&line),
            _ => payloads.push(format!("{node}{line}")),
        }
    }
    if pending.resync || payloads.len() > MAX_PAYLOADS {
        return vec![format!("{node}\n{RESYNC}")];
    }
    payloads
}

/// A channel and its head: the cursor's text, which has a fixed width, a character for open or closed, and the name.
fn hint(line: &str) -> Option<(Channel, Head)> {
    let (cursor, rest) = line.split_at_checked(Cursor::TEXT_LEN)?;
    let (closed, name) = match rest.strip_prefix(CLOSED) {
        Some(name) => (true, name),
        None => (false, rest.strip_prefix(OPEN)?),
    };
    Some((Channel::new(name).ok()?, Head { cursor: cursor.parse().ok()?, closed }))
}

const OPEN: char = '.';
const CLOSED: char = '!';
const PING: &str = "?";
const RESYNC: &str = "*";

/// PostgreSQL accepts payloads below 8 000 bytes.
const MAX_BYTES: usize = 7_900;

/// Most payloads in one statement: 100 kB, room for about 2 000 channels with short names.
const MAX_PAYLOADS: usize = 12;

/// Most heads that wait to be sent.
const MAX_HEADS: usize = 4096;

/// The pause between two notifications of one node.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

const RETRY_AFTER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64) -> Head {
        Head { cursor: Cursor { epoch: 7, seq, tag: 9 }, closed: false }
    }

    fn named(name: &str) -> Channel {
        Channel::new(name).unwrap()
    }

    fn sent(heads: Vec<(Channel, Head)>) -> Vec<String> {
        payloads("node", Pending { heads: heads.into_iter().collect(), resync: false })
    }

    #[test]
    fn payloads_read_back() {
        let other = Notifier::new();
        let heads = vec![(named("a!b.c"), head(3))];
        assert_eq!(other.parse(&sent(heads.clone()).concat()), Notification::Heads(heads));
        let closed = vec![(named("чат 😀"), Head { closed: true, ..head(u64::MAX) })];
        assert_eq!(other.parse(&sent(closed.clone()).concat()), Notification::Heads(closed));
        assert_eq!(other.parse("node\n?"), Notification::Heads(vec![]));
        assert_eq!(other.parse(&format!("{}\n?", other.node)), Notification::Own);
    }

    #[tokio::test(start_paused = true)]
    async fn an_append_notifies_no_more_often_than_the_task_and_only_while_appends_are_fast() {
        let notifier = Notifier::new();
        assert_eq!(notifier.try_notify_inline(), Some(&*notifier.node));
        assert_eq!(notifier.try_notify_inline(), None);
        tokio::time::advance(MIN_INTERVAL).await;
        notifier.note_pace(MIN_INTERVAL);
        assert_eq!(notifier.try_notify_inline(), None);
        notifier.note_pace(MIN_INTERVAL / 2);
        notifier.note(&named("a"), head(1));
        assert_eq!(notifier.try_notify_inline(), None);
        std::mem::take(&mut *notifier.lock());
        assert!(notifier.try_notify_inline().is_some());
    }

    #[test]
    fn an_unreadable_payload_is_a_resync() {
        let notifier = Notifier::new();
        for payload in ["", "node\n*", "node\n", "node\nnonsense", &format!("node\n{}x", "é".repeat(20))] {
            let expected = if payload.is_empty() { Notification::Heads(vec![]) } else { Notification::Resync };
            assert_eq!(notifier.parse(payload), expected, "{payload:?}");
        }
    }

    #[test]
    fn payloads_stay_below_the_limit_of_the_server() {
        let longest = |n: usize| (named(&format!("{n:0255}")), head(1));
        let few = sent((0..300).map(longest).collect());
        assert!(few.len() > 1 && few.iter().all(|payload| payload.len() < 8_000), "{}", few.len());
        let heads: usize = few.iter().map(|payload| payload.lines().count() - 1).sum();
        assert_eq!(heads, 300);
        assert_eq!(sent((0..1000).map(longest).collect()), ["node\n*"]);
    }

    #[test]
    fn too_many_heads_become_a_resync() {
        let notifier = Notifier::new();
        (0..10_000).for_each(|n| notifier.note(&named(&n.to_string()), head(1)));
        let pending = std::mem::take(&mut *notifier.lock());
        assert!(pending.resync && pending.heads.is_empty());
    }
}
