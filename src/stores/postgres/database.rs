//! Connections and calls: a pool, times that bound every wait, and one way to run a statement. Knows no event.

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
    access::Access,
    failure::{Failure, TooLong},
    format,
    lanes::{Lane, Lanes},
    schema::Sql,
    tls::Messages,
};
use crate::{
    store::{Health, Source},
    stores::absent_channels::AbsentChannels,
};

/// A parameter and its type: known beforehand, so that no round trip asks for it.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Whether statements are prepared once per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statements {
    Prepared,
    /// Sent whole each time, for poolers that give every transaction another connection.
    Unprepared,
}

/// One database with one schema of ours.
pub(super) struct Database {
    pool: Pool,
    lanes: Lanes,
    /// Where to listen: not always where to write, for a pooler forwards no notifications.
    listener: Access,
    statements: Statements,
    /// The longest wait for a connection, and then for an answer.
    pub(super) patience: Duration,
    pub(super) sql: Sql,
    pub(super) absent: AbsentChannels,
    /// Whether the last call found that it cannot be used.
    away: AtomicBool,
    /// Whether it was found that it only reads, and nothing was written since.
    read_only: AtomicBool,
    /// Where the store's tasks run.
    pub(super) runtime: Handle,
}

impl Database {
    pub(super) fn new(
        (access, listener): (Access, Access),
        (statements, patience, connections): (Statements, Duration, usize),
        sql: Sql,
    ) -> Result<Self, Source> {
        let runtime = Handle::try_current()?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        // The manager shows its configuration, which is not what connects.
        let manager = Manager::from_connect(Config::new(), access, recycling);
        let wait = Some(patience);
        let pool = Pool::builder(manager)
            .max_size(connections)
            // The one that was used last: its server process has the statements planned, and is the least cold.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait, create: wait, recycle: wait })
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Self {
            pool,
            lanes: Lanes::default(),
            listener,
            statements,
            patience,
            sql,
            absent: AbsentChannels::default(),
            away: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            runtime,
        })
    }

    /// Runs a statement. One that changes nothing is repeated on a fresh connection when its own was cut.
    pub(super) async fn read(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let mut answer = self.read_once(sql, params).await;
        // After a wait that was too long there is no time left.
        if answer.as_ref().is_err_and(Failure::is_of_cut) {
            answer = self.read_once(sql, params).await;
        }
        self.note(answer.as_ref().err());
        answer
    }

    async fn read_once(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        self.run(&Lane::new(self.client().await?), sql, params).await
    }

    /// Runs a statement that changes something; repeats it only where the server says that nothing was changed. When no row
    /// comes back, it changed nothing, and says nothing of whether it could have.
    pub(super) async fn write(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let answer = self.write_until_it_is_certain(sql, params).await;
        if answer.as_ref().is_ok_and(Vec::is_empty) {
            return answer;
        }
        self.note(answer.as_ref().err());
        answer
    }

    /// Entries were written: what a call says that had something to write, for the success of others says nothing of that.
    pub(super) fn has_written(&self) {
        if self.read_only.swap(false, Ordering::Relaxed) {
            tracing::info!("PostgreSQL can be written again");
        }
    }

    async fn write_until_it_is_certain(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let until = Instant::now() + self.patience;
        loop {
            let lane = in_time(self.patience, self.lanes.take(&self.pool)).await?;
            match self.run(&lane, sql, params).await {
                Err(failure) if failure.is_collision() && Instant::now() < until => {
                    sleep(COLLISION_PAUSE.mul_f64(fastrand::f64())).await;
                }
                other => return other,
            }
        }
    }

    async fn run(&self, lane: &Lane, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let Some(client) = lane.get() else { return Err(Failure::NotSent("the connection is gone".into())) };
        let until = Instant::now() + self.patience;
        let result = match self.statements {
            Statements::Prepared => run_prepared(client, sql, params, until).await,
            Statements::Unprepared => answer(client.query_typed(sql, params), until).await,
        };
        if result.as_ref().is_err_and(Failure::spoils_connection) {
            lane.spoil();
        }
        match &result {
            Err(failure) if failure.is_of_schema() => self.newer(client, until).await.map_or(result, Err),
            _ => result,
        }
    }

    /// Says it when the schema lacks something for being of a newer version.
    async fn newer(&self, client: &Object, until: Instant) -> Option<Failure> {
        let rows = answer(client.query_typed(&self.sql.format, &[]), until).await.ok()?;
        let (stored, denied) = format::denied(format::format(rows.first()?, 0).ok()?)?;
        Some(Failure::Newer { stored, denied })
    }

    async fn client(&self) -> Result<Object, Failure> {
        in_time(self.patience, self.pool.get()).await
    }

    /// Runs a script as one transaction, without a bound in time of its own: unless all `done` hold, of which each is asked only
    /// if those before it do.
    pub(super) async fn migrate(&self, lock: &str, done: [&str; 2], script: &str) -> Result<(), Failure> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(Failure::of_sent)?;
        transaction.batch_execute(lock).await.map_err(Failure::of_sent)?;
        let mut is_done = true;
        for condition in done {
            if is_done {
                let rows = transaction.simple_query(condition).await.map_err(Failure::of_sent)?;
                is_done = rows.iter().any(|row| matches!(row, SimpleQueryMessage::Row(row) if row.get(0) == Some("t")));
            }
        }
        if is_done {
            return Ok(());
        }
        transaction.batch_execute(script).await.map_err(Failure::of_sent)?;
        transaction.commit().await.map_err(Failure::of_sent)
    }

    /// A connection of its own, outside the pool, and what the server says on it unasked.
    pub(super) async fn open(&self) -> Result<(Client, Messages), tokio_postgres::Error> {
        self.listener.connect().await
    }

    /// What the last calls found.
    pub(super) fn health(&self) -> Health {
        match (self.away.load(Ordering::Relaxed), self.read_only.load(Ordering::Relaxed)) {
            (true, _) => Health::Unavailable,
            (false, true) => Health::ReadOnly,
            (false, false) => Health::Ready,
        }
    }

    fn note(&self, failure: Option<&Failure>) {
        // A connection that was cut says nothing of the next one.
        if failure.is_some_and(Failure::is_of_cut) {
            return;
        }
        let found = failure.and_then(|failure| Some((failure.health()?, failure)));
        if let Some((Health::ReadOnly, error)) = found {
            if !self.read_only.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "PostgreSQL cannot be written; trying again");
            }
            // Whether it can be read, this does not say.
            return;
        }
        let away = found.filter(|(health, _)| *health == Health::Unavailable);
        if self.away.swap(away.is_some(), Ordering::Relaxed) != away.is_some() {
            match away {
                Some((_, error)) => tracing::warn!(%error, "PostgreSQL cannot be used; trying again"),
                None => tracing::info!("PostgreSQL can be used again"),
            }
        }
    }

    /// How many connections there are, and how many of them are idle.
    pub(super) fn connections(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size, status.available)
    }
}

async fn in_time<T>(patience: Duration, got: impl Future<Output = Result<T, PoolError>>) -> Result<T, Failure> {
    match timeout(patience, got).await {
        Ok(got) => got.map_err(|error| Failure::NotSent(error.into())),
        Err(_) => Err(Failure::NotSent(TooLong("take a connection").into())),
    }
}

async fn run_prepared(client: &Object, sql: &str, params: &[Param<'_>], until: Instant) -> Result<Vec<Row>, Failure> {
    let (values, types): (Vec<_>, Vec<_>) = params.iter().map(|(value, kind)| (*value, kind.clone())).unzip();
    let statement = match timeout_at(until, client.prepare_typed_cached(sql, &types)).await {
        Ok(Ok(statement)) => statement,
        Ok(Err(error)) if error.as_db_error().is_some() => return Err(Failure::Refused(error)),
        Ok(Err(error)) => return Err(Failure::NotSent(error.into())),
        Err(_) => return Err(Failure::NotSent(TooLong("prepare a statement").into())),
    };
    answer(client.query(&statement, &values), until).await
}

async fn answer(
    query: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>,
    until: Instant,
) -> Result<Vec<Row>, Failure> {
    match timeout_at(until, query).await {
        Ok(answer) => answer.map_err(Failure::of_sent),
        Err(_) => Err(Failure::Lost(TooLong("answer").into())),
    }
}

/// The longest pause before a statement that collided is tried again.
const COLLISION_PAUSE: Duration = Duration::from_millis(10);
