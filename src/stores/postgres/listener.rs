//! The connection that receives the notifications of other processes. It is not from the pool: it holds a session,
//! which a pooler in between would give to others. Every few seconds it checks that it receives this process's own
//! notification, because a half-open connection, or a pooler that swallows notifications, causes no error.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::AsyncMessage;

use super::{
    database::Database,
    error::{ErrorChain, TimedOut},
    notifier::{Notification, Notifier},
    tls::Messages,
};
use crate::{
    store::{
        Change, Source,
        kit::{Backoff, Watchers},
        log_pace::LogPace,
    },
    stores::outage_log::Part,
};

/// What a listener needs.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) database: Arc<Database>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) watchers: Watchers,
    /// How many of this process's own notifications were received.
    pub(super) own_received: Arc<AtomicU64>,
    /// How often it had to connect again.
    pub(super) reconnects: Arc<AtomicU64>,
    /// Of the warning that the queue of notifications fills up.
    pub(super) queue_warning: Arc<LogPace>,
}

impl Listener {
    /// Listens for ever. Whenever it starts to receive, everything before that counts as missed.
    pub(super) async fn run(self) {
        let mut failed_attempts = 0_u32;
        loop {
            let ended = self.session().await;
            // A listener that had been receiving reconnects soon.
            failed_attempts = if self.watchers.disarm() { 0 } else { failed_attempts.saturating_add(1) };
            self.reconnects.fetch_add(1, Ordering::Relaxed);
            if self.database.outages.failed(Part::Changes) {
                tracing::warn!(error = %ErrorChain(&*ended), "listening on PostgreSQL ended; changes by other processes are noticed late until it is back");
            }
            sleep(RETRY.delay(failed_attempts)).await;
        }
    }

    /// Connects and listens until something ends it; returns what did.
    async fn session(&self) -> Source {
        match self.listen().await {
            Ok(ended) => ended,
            Err(error) => error,
        }
    }

    async fn listen(&self) -> Result<Source, Source> {
        let call_timeout = self.database.timeout;
        let (client, messages) =
            timeout(call_timeout, self.database.open()).await.map_err(|_| TimedOut("take a listener"))??;
        // The task ends when `client` is dropped, together with this future.
        let mut driver = self.database.runtime.spawn(self.clone().drive(messages));
        let listen = client.batch_execute(&self.database.sql.listen);
        timeout(call_timeout, listen).await.map_err(|_| TimedOut("begin to listen"))??;
        self.watchers.arm();
        // A listener that receives nothing is noticed only when it is checked.
        self.check(&client).await?;
        if self.database.outages.recovered(Part::Changes) {
            tracing::info!("listening on PostgreSQL again");
        }
        loop {
            if let Ok(ended) = timeout(CHECK_EVERY, &mut driver).await {
                return Ok(ended.unwrap_or_else(Into::into));
            }
            self.check(&client).await?;
        }
    }

    /// Checks that a notification sent to the database is received here.
    async fn check(&self, client: &tokio_postgres::Client) -> Result<(), Source> {
        let before = self.own_received.load(Ordering::Relaxed);
        if self.notifier.ping(&self.database).await.is_err() {
            // Nothing can be sent now, so nothing can be concluded; the connection itself can still be checked.
            let result = timeout(self.database.timeout, client.simple_query(&self.database.sql.queue_usage)).await;
            return result.map_err(|_| TimedOut("answer the listener"))?.map(drop).map_err(Into::into);
        }
        let waits = PROOF_WITHIN.as_millis() / POLL.as_millis();
        for _ in 0..waits {
            if self.own_received.load(Ordering::Relaxed) != before {
                return self.warn_if_full(client).await;
            }
            sleep(POLL).await;
        }
        Err("the listener does not receive notifications; if there is a pooler in between, give a listener URL that bypasses it".into())
    }

    /// A listener elsewhere that is stuck in a transaction fills the server's queue, and then no process can notify.
    async fn warn_if_full(&self, client: &tokio_postgres::Client) -> Result<(), Source> {
        let result = timeout(self.database.timeout, client.simple_query(&self.database.sql.queue_usage)).await;
        let rows = result.map_err(|_| TimedOut("answer the listener"))??;
        let full = rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse::<f64>().ok(),
            _ => None,
        });
        if full.is_some_and(|full| full > MAX_QUEUE_USAGE) && self.queue_warning.is_due() {
            tracing::warn!(
                full,
                "PostgreSQL's queue of notifications is filling up; a listener is stuck in a transaction"
            );
        }
        Ok(())
    }

    async fn drive(self, mut messages: Messages) -> Source {
        loop {
            match poll_fn(|cx| messages(cx)).await {
                Some(Ok(AsyncMessage::Notification(said))) => self.take(said.payload()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.into(),
                None => return "the connection was closed".into(),
            }
        }
    }

    fn take(&self, payload: &str) {
        match self.notifier.parse(payload) {
            Notification::Own => _ = self.own_received.fetch_add(1, Ordering::Relaxed),
            Notification::Resync => self.watchers.notify(|| Change::Resync),
            Notification::Heads(heads) => {
                for (channel, head) in heads {
                    self.watchers.notify(|| Change::Head(channel.clone(), head));
                }
            }
        }
    }
}

/// A listener that runs. Dropping it ends it.
pub(super) struct ListenerTask(pub(super) JoinHandle<()>);

impl Drop for ListenerTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The share of the queue in use at which to warn.
const MAX_QUEUE_USAGE: f64 = 0.1;

/// How often a listener is checked.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// How long a notification may take to arrive.
const PROOF_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
