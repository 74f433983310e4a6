//! The connection of a store that listens for the hints of other nodes, on behalf of all watchers. Reads no entries.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use redis::{
    PushInfo, PushKind, Value,
    aio::{MultiplexedConnection, SendError},
};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{codec, connection, primary, shared::Shared};
use crate::{
    store::{
        Change,
        kit::{self, Watchers},
    },
    stores::outage_log::Part,
};

/// Holds the listener while anyone watches.
#[derive(Default)]
pub(super) struct ListenerSlot(Mutex<Weak<Listener>>);

impl ListenerSlot {
    /// The stream of a new watcher; the first one starts the listener.
    pub(super) fn changes(&self, shared: &Arc<Shared>) -> Changes {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = slot.upgrade().unwrap_or_else(|| {
            let (shared, watchers) = (Arc::clone(shared), Watchers::unarmed());
            let new = Arc::new(Listener { shared, watchers, task: Mutex::default() });
            *slot = Arc::downgrade(&new);
            new
        });
        drop(slot);
        Changes { changes: current.watchers.watch(), listener: current }
    }

    /// Whether hints arrive; `None` without watchers.
    pub(super) fn is_armed(&self) -> Option<bool> {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        Some(listener.watchers.is_armed())
    }
}

/// The listening task and its watchers. Dropping it ends the task.
struct Listener {
    shared: Arc<Shared>,
    watchers: Watchers,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    /// Starts the task, unless it runs, on the runtime of the caller that polls.
    fn ensure_running(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(listen(Arc::clone(&self.shared), self.watchers.clone())));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        task.iter().for_each(JoinHandle::abort);
    }
}

/// Listens until dropped: connects, subscribes, reports the gap, and repeats when the connection is lost.
async fn listen(shared: Arc<Shared>, watchers: Watchers) {
    let mut failed_attempts = 0;
    loop {
        let ended = listen_once(&shared, &watchers, failed_attempts).await;
        if watchers.disarm() {
            failed_attempts = 0;
        }
        if shared.outages.failed(Part::Changes) {
            let error = ended.err();
            let error = error.as_ref().map(tracing::field::display);
            tracing::warn!(error, "not listening to the Redis server; trying again");
        }
        sleep(connection::RETRY.delay(failed_attempts)).await;
        failed_attempts = failed_attempts.saturating_add(1);
    }
}

async fn listen_once(shared: &Arc<Shared>, watchers: &Watchers, failed_attempts: u32) -> redis::RedisResult<()> {
    let (attempt_timeout, primary) = (shared.settings.timeout, &shared.primary);
    let term = primary.current();
    let lost = Arc::new(Notify::new());
    let connect =
        connection::open_connection(&shared.endpoint, failed_attempts, on_push(watchers.clone(), Arc::clone(&lost)));
    let mut connection = timeout(attempt_timeout, connect).await.map_err(timed_out)??;
    check(&mut connection, attempt_timeout).await?;
    timeout(attempt_timeout, connection.subscribe(shared.settings.key("bell"))).await.map_err(timed_out)??;
    watchers.arm();
    if shared.outages.recovered(Part::Changes) {
        tracing::info!("listening to the Redis server again");
    }
    // A store that was opened without connecting has not yet announced its settings to other nodes.
    shared.sweep_if_due();
    let (mut lost, mut over) = (pin!(lost.notified()), pin!(primary.ended(term)));
    loop {
        let ended = poll_fn(|cx| match (lost.as_mut().poll(cx), over.as_mut().poll(cx)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        });
        if timeout(PING_EVERY, ended).await.is_ok() {
            return Ok(());
        }
        // This connection may be silent for hours; only a reply shows that it is not half open.
        if let Err(error) = check(&mut connection, attempt_timeout).await {
            if primary::is_replica_error(&error) {
                primary.end(term);
            }
            return Err(error);
        }
        shared.sweep_if_due();
    }
}

async fn check(connection: &mut MultiplexedConnection, attempt_timeout: Duration) -> redis::RedisResult<()> {
    let probe = primary::probe();
    primary::check_probe_reply(
        timeout(attempt_timeout, connection.send_packed_command(&probe)).await.map_err(timed_out)??,
    )
}

/// Handles each push from the server in the task that reads the connection, so that nothing is queued in between.
fn on_push(watchers: Watchers, lost: Arc<Notify>) -> impl Fn(PushInfo) -> Result<(), SendError> {
    move |info| {
        match info.kind {
            PushKind::Disconnection => lost.notify_one(),
            PushKind::Message => {
                if let Some(Value::BulkString(message)) = info.data.into_iter().nth(1) {
                    // A message that this crate did not write is no hint, but one may have been lost.
                    watchers.notify_all(&codec::changes_of(message).unwrap_or_else(|| vec![Change::Resync]));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn timed_out(_: tokio::time::error::Elapsed) -> redis::RedisError {
    (redis::ErrorKind::Io, "the Redis server does not answer").into()
}

/// The stream of one watcher. Dropping the last one ends the listener.
pub(super) struct Changes {
    changes: kit::Changes,
    listener: Arc<Listener>,
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let next = Pin::new(&mut self.changes).poll_next(cx);
        if next.is_pending() {
            self.listener.ensure_running();
        }
        next
    }
}

/// How often the listening connection is pinged.
const PING_EVERY: Duration = Duration::from_secs(5);
