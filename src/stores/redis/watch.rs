//! The one reader of a store: a connection that listens to the hints of other nodes, for all who watch. Reads no log.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
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

use super::{codec, link, primary, shared::Shared};
use crate::{
    store::Change,
    stores::change_queue::{ChangeQueue, ChangeReceiver},
};

/// Where a store keeps its reader while anyone watches.
#[derive(Default)]
pub(super) struct Watch(Mutex<Weak<Reader>>);

impl Watch {
    /// The stream of a new watcher; the reader is started by the first.
    pub(super) fn changes(&self, shared: &Arc<Shared>) -> Changes {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = reader.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Reader { shared: Arc::clone(shared), bells: Arc::default(), task: Mutex::default() });
            *reader = Arc::downgrade(&new);
            new
        });
        drop(reader);
        let intake = ChangeReceiver::new(current.bells.register());
        Changes { reader: current, intake }
    }

    /// Whether someone watches, and hints come.
    pub(super) fn is_armed(&self) -> Option<bool> {
        let reader = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        Some(reader.bells.lock().armed)
    }
}

/// The reader: its task and whom it tells. Dropping it ends the task.
struct Reader {
    shared: Arc<Shared>,
    bells: Arc<Bells>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Reader {
    /// Starts the task on the runtime of whoever polls, unless it runs.
    fn ensure_running(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(listen(Arc::clone(&self.shared), Arc::clone(&self.bells))));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        task.iter().for_each(JoinHandle::abort);
    }
}

/// Everyone who is told.
#[derive(Default)]
struct Bells(Mutex<Told>);

#[derive(Default)]
struct Told {
    /// Whether hints come now.
    armed: bool,
    backlogs: Vec<Arc<ChangeQueue>>,
}

impl Bells {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self) -> Arc<ChangeQueue> {
        let backlog = Arc::new(ChangeQueue::empty());
        let mut told = self.lock();
        told.backlogs.push(Arc::clone(&backlog));
        if told.armed {
            // Nobody waits for it yet.
            _ = backlog.push(Change::Resync);
        }
        backlog
    }

    fn deregister(&self, backlog: &Arc<ChangeQueue>) {
        self.lock().backlogs.retain(|other| !Arc::ptr_eq(other, backlog));
    }

    /// Tells everyone, and wakes them outside the lock, for that runs foreign code.
    fn tell(&self, changes: Vec<Change>) {
        let backlogs = self.lock().backlogs.clone();
        for backlog in backlogs {
            let wakers = changes.iter().filter_map(|change| backlog.push(change.clone()));
            wakers.for_each(Waker::wake);
        }
    }

    /// Hints come from now on, and everyone has to look at everything once.
    fn arm(&self) {
        self.lock().armed = true;
        self.tell(vec![Change::Resync]);
    }
}

/// Listens until dropped: connects, subscribes, tells of the gap, and goes on until the connection is lost.
async fn listen(shared: Arc<Shared>, bells: Arc<Bells>) {
    let mut failed = 0;
    loop {
        let ended = listen_once(&shared, &bells, failed).await;
        let heard = std::mem::take(&mut bells.lock().armed);
        match ended {
            _ if heard => {
                failed = 0;
                tracing::warn!("lost the connection that listens to the Redis server");
            }
            Err(error) if failed == 0 => tracing::warn!(%error, "cannot listen to the Redis server; trying again"),
            _ => {}
        }
        sleep(link::pause(failed)).await;
        failed = failed.saturating_add(1);
    }
}

async fn listen_once(shared: &Arc<Shared>, bells: &Arc<Bells>, failed: u32) -> redis::RedisResult<()> {
    let (patience, primary) = (shared.settings.timeout, &shared.primary);
    let term = primary.term();
    let lost = Arc::new(Notify::new());
    let connect = link::connection(&shared.dial, failed, hear(Arc::clone(bells), Arc::clone(&lost)));
    let mut connection = timeout(patience, connect).await.map_err(late)??;
    check(&mut connection, patience).await?;
    timeout(patience, connection.subscribe(shared.settings.key("bell"))).await.map_err(late)??;
    bells.arm();
    // A store that was opened without connecting has not yet told other nodes what it keeps.
    shared.sweep_soon();
    let (mut lost, mut over) = (pin!(lost.notified()), pin!(primary.over(term)));
    loop {
        let ended = poll_fn(|cx| match (lost.as_mut().poll(cx), over.as_mut().poll(cx)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        });
        if timeout(PING_EVERY, ended).await.is_ok() {
            return Ok(());
        }
        // Nothing has to come on this connection for hours; only an answer shows that it is not half open.
        if let Err(error) = check(&mut connection, patience).await {
            if primary::is_of_replica(&error) {
                primary.is_over(term);
            }
            return Err(error);
        }
        shared.sweep_soon();
    }
}

async fn check(connection: &mut MultiplexedConnection, patience: Duration) -> redis::RedisResult<()> {
    let question = primary::question();
    primary::check(timeout(patience, connection.send_packed_command(&question)).await.map_err(late)??)
}

/// What is done with each push of the server, in the task that reads the connection: nothing waits in between.
fn hear(bells: Arc<Bells>, lost: Arc<Notify>) -> impl Fn(PushInfo) -> Result<(), SendError> {
    move |info| {
        match info.kind {
            PushKind::Disconnection => lost.notify_one(),
            PushKind::Message => {
                if let Some(Value::BulkString(message)) = info.data.into_iter().nth(1) {
                    // Someone else's message is no hint, but may stand for one.
                    bells.tell(codec::changes_of(message).unwrap_or_else(|| vec![Change::Resync]));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn late(_: tokio::time::error::Elapsed) -> redis::RedisError {
    (redis::ErrorKind::Io, "the Redis server does not answer").into()
}

/// The stream of one watcher. Dropping it deregisters, and dropping the last ends the reader.
pub(super) struct Changes {
    reader: Arc<Reader>,
    intake: ChangeReceiver,
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let next = self.intake.poll_next(cx);
        if next.is_pending() {
            self.reader.ensure_running();
        }
        next
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.reader.bells.deregister(self.intake.queue());
    }
}

/// How long the listening connection may be silent before it is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(5);
