//! Connections and calls: a pool, a timeout for every wait, and one way to run a statement. Knows no event.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, QueueMode, RecyclingMethod, Runtime, Timeouts,
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_postgres::{
    Client, Config, Row, SimpleQueryMessage,
    types::{ToSql, Type},
};

use super::{
    connector::Connector,
    error::{CallError, TimedOut},
    format,
    shared_connections::{SharedConnection, SharedConnections},
    sql::Sql,
    tls::Messages,
};
use crate::{
    store::{Health, Source, UpkeepNotes, kit::AbsentChannels, log_pace::ChannelLog},
    stores::outage_log::{OutageLog, Part},
};

/// A parameter and its type, which is given so that no round trip asks for it.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Whether statements are prepared once per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statements {
    Prepared,
    /// Sent with their text each time, for poolers that give every transaction another connection.
    Unprepared,
}

/// A database with one schema of this crate.
pub(super) struct Database {
    pool: Pool,
    shared: SharedConnections,
    /// Where to listen: not always where to write, because a pooler forwards no notifications.
    listener: Connector,
    statements: Statements,
    /// The longest wait for a connection, and then for a response.
    pub(super) timeout: Duration,
    pub(super) sql: Sql,
    pub(super) absent: AbsentChannels,
    /// Whether the last call found the database unusable.
    unavailable: AtomicBool,
    /// Whether the database was found to be read-only, and nothing was written since.
    read_only: AtomicBool,
    pub(super) outages: OutageLog,
    pub(super) upkeep: UpkeepNotes,
    /// The channels that cannot be read or tidied.
    pub(super) damaged: ChannelLog,
    /// Where the store's tasks run.
    pub(super) runtime: Handle,
}

impl Database {
    pub(super) fn new(
        (connector, listener): (Connector, Connector),
        (statements, timeout, connections): (Statements, Duration, usize),
        sql: Sql,
    ) -> Result<Self, Source> {
        let runtime = Handle::try_current()?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        // The manager shows its configuration in `Debug`, so it gets an empty one; the connector has the real one.
        let manager = Manager::from_connect(Config::new(), connector, recycling);
        let wait = Some(timeout);
        let pool = Pool::builder(manager)
            .max_size(connections)
            // Most recently used first: its server process has the statements planned and its caches warm.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait, create: wait, recycle: wait })
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Self {
            pool,
            shared: SharedConnections::default(),
            listener,
            statements,
            timeout,
            sql,
            absent: AbsentChannels::default(),
            unavailable: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            outages: OutageLog::default(),
            upkeep: UpkeepNotes::default(),
            damaged: ChannelLog::default(),
            runtime,
        })
    }

    /// Runs a statement that changes nothing. Repeats it on a fresh connection if its own was cut off.
    pub(super) async fn read(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, CallError> {
        let mut answer = self.read_once(sql, params).await;
        // After a timeout, no time is left.
        if answer.as_ref().is_err_and(CallError::was_cut_off) {
            answer = self.read_once(sql, params).await;
        }
        self.note(answer.as_ref().err());
        answer
    }

    async fn read_once(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, CallError> {
        self.run(&SharedConnection::new(self.client().await?), sql, params).await
    }

    /// Runs a statement that changes something; repeats it only when the server says that nothing was changed. If no
    /// row comes back, it changed nothing, which says nothing about whether it could have.
    pub(super) async fn write(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, CallError> {
        let answer = self.write_until_it_is_certain(sql, params).await;
        if answer.as_ref().is_ok_and(Vec::is_empty) {
            return answer;
        }
        self.note(answer.as_ref().err());
        answer
    }

    /// Records that something was written. Called explicitly, because a call may succeed without having had anything to
    /// write.
    pub(super) fn note_writable(&self) {
        if self.read_only.swap(false, Ordering::Relaxed) && self.outages.recovered(Part::Writes) {
            tracing::info!("PostgreSQL can be written again");
        }
    }

    async fn write_until_it_is_certain(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, CallError> {
        let until = Instant::now() + self.timeout;
        loop {
            let connection = in_time(self.timeout, self.shared.acquire(&self.pool)).await?;
            match self.run(&connection, sql, params).await {
                Err(error) if error.is_serialization_conflict() && Instant::now() < until => {
                    self.upkeep.conflicted();
                    sleep(COLLISION_PAUSE.mul_f64(fastrand::f64())).await;
                }
                other => return other,
            }
        }
    }

    async fn run(&self, connection: &SharedConnection, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, CallError> {
        let Some(client) = connection.get() else { return Err(CallError::NotSent("the connection is gone".into())) };
        let until = Instant::now() + self.timeout;
        let result = match self.statements {
            Statements::Prepared => run_prepared(client, sql, params, until).await,
            Statements::Unprepared => answer(client.query_typed(sql, params), until).await,
        };
        if result.as_ref().is_err_and(CallError::breaks_connection) {
            connection.mark_broken();
        }
        match &result {
            Err(error) if error.is_missing_schema_object() => self.newer(client, until).await.map_or(result, Err),
            _ => result,
        }
    }

    /// The error, if the schema lacks something because it has a newer version.
    async fn newer(&self, client: &Object, until: Instant) -> Option<CallError> {
        let rows = answer(client.query_typed(&self.sql.format, &[]), until).await.ok()?;
        let (stored, denied) = format::denied(format::format(rows.first()?, 0).ok()?)?;
        Some(CallError::NewerFormat { stored, denied })
    }

    async fn client(&self) -> Result<Object, CallError> {
        in_time(self.timeout, self.pool.get()).await
    }

    /// Runs a script in one transaction and without a timeout, unless all conditions in `done` hold; each is checked
    /// only if the previous ones hold.
    pub(super) async fn migrate(&self, lock: &str, done: [&str; 2], script: &str) -> Result<(), CallError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(CallError::after_send)?;
        transaction.batch_execute(lock).await.map_err(CallError::after_send)?;
        let mut is_done = true;
        for condition in done {
            if is_done {
                let rows = transaction.simple_query(condition).await.map_err(CallError::after_send)?;
                is_done = rows.iter().any(|row| matches!(row, SimpleQueryMessage::Row(row) if row.get(0) == Some("t")));
            }
        }
        if is_done {
            return Ok(());
        }
        transaction.batch_execute(script).await.map_err(CallError::after_send)?;
        transaction.commit().await.map_err(CallError::after_send)
    }

    /// Opens a connection outside the pool, with the messages that the server sends on it.
    pub(super) async fn open(&self) -> Result<(Client, Messages), tokio_postgres::Error> {
        self.listener.connect().await
    }

    /// The health that the last calls observed.
    pub(super) fn health(&self) -> Health {
        match (self.unavailable.load(Ordering::Relaxed), self.read_only.load(Ordering::Relaxed)) {
            (true, _) => Health::Unavailable,
            (false, true) => Health::ReadOnly,
            (false, false) => Health::Ready,
        }
    }

    fn note(&self, error: Option<&CallError>) {
        // A connection that was cut off says nothing about the next one.
        if error.is_some_and(CallError::was_cut_off) {
            return;
        }
        let found = error.and_then(|error| Some((error.health()?, error)));
        if let Some((Health::ReadOnly, error)) = found {
            self.read_only.store(true, Ordering::Relaxed);
            if self.outages.failed(Part::Writes) {
                tracing::warn!(%error, "cannot write to PostgreSQL; trying again");
            }
            // This says nothing about whether it can be read.
            return;
        }
        let unavailable = found.filter(|(health, _)| *health == Health::Unavailable);
        let was_unavailable = self.unavailable.swap(unavailable.is_some(), Ordering::Relaxed);
        match unavailable {
            Some((_, error)) if self.outages.failed(Part::Calls) => {
                tracing::warn!(%error, "cannot use PostgreSQL; trying again");
            }
            None if was_unavailable && self.outages.recovered(Part::Calls) => {
                tracing::info!("PostgreSQL can be used again");
            }
            _ => {}
        }
    }

    /// How many connections there are, and how many of them are idle.
    pub(super) fn connections(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size, status.available)
    }
}

async fn in_time<T>(limit: Duration, got: impl Future<Output = Result<T, PoolError>>) -> Result<T, CallError> {
    match timeout(limit, got).await {
        Ok(got) => got.map_err(|error| CallError::NotSent(error.into())),
        Err(_) => Err(CallError::NotSent(TimedOut("take a connection").into())),
    }
}

async fn run_prepared(client: &Object, sql: &str, params: &[Param<'_>], until: Instant) -> Result<Vec<Row>, CallError> {
    let (values, types): (Vec<_>, Vec<_>) = params.iter().map(|(value, kind)| (*value, kind.clone())).unzip();
    let statement = match timeout_at(until, client.prepare_typed_cached(sql, &types)).await {
        Ok(Ok(statement)) => statement,
        Ok(Err(error)) if error.as_db_error().is_some() => return Err(CallError::Refused(error)),
        Ok(Err(error)) => return Err(CallError::NotSent(error.into())),
        Err(_) => return Err(CallError::NotSent(TimedOut("prepare a statement").into())),
    };
    answer(client.query(&statement, &values), until).await
}

async fn answer(
    query: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>,
    until: Instant,
) -> Result<Vec<Row>, CallError> {
    match timeout_at(until, query).await {
        Ok(answer) => answer.map_err(CallError::after_send),
        Err(_) => Err(CallError::NoResponse(TimedOut("answer").into())),
    }
}

/// The longest pause before a conflicting statement is retried.
const COLLISION_PAUSE: Duration = Duration::from_millis(10);
