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
    Client, Config, Row,
    types::{ToSql, Type},
};

use super::{
    failure::{Failure, TooLong},
    lanes::{Lane, Lanes},
    schema::Sql,
    tls::{Messages, Tls},
};
use crate::store::Source;

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
    listener: Config,
    tls: Tls,
    statements: Statements,
    /// The longest wait for a connection, and then for an answer.
    pub(super) patience: Duration,
    pub(super) sql: Sql,
    /// Whether the last call found that it cannot be used.
    away: AtomicBool,
    /// Where the store's tasks run.
    pub(super) runtime: Handle,
}

impl Database {
    pub(super) fn new(
        (config, listener, tls): (Config, Config, Tls),
        (statements, patience, connections): (Statements, Duration, usize),
        sql: Sql,
    ) -> Result<Self, Source> {
        let runtime = Handle::try_current()?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &tls {
            Tls::Off => Manager::from_config(config, tokio_postgres::NoTls, recycling),
            Tls::On(connector) => Manager::from_config(config, connector.clone(), recycling),
        };
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
            tls,
            statements,
            patience,
            sql,
            away: AtomicBool::new(false),
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
        self.noted(answer)
    }

    async fn read_once(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        self.run(&Lane::new(self.client().await?), sql, params).await
    }

    /// Runs a statement that changes something; repeats it only where the server says that nothing was changed.
    pub(super) async fn write(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let answer = self.write_until_it_is_certain(sql, params).await;
        self.noted(answer)
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
        result
    }

    async fn client(&self) -> Result<Object, Failure> {
        in_time(self.patience, self.pool.get()).await
    }

    /// Runs statements as one transaction, without a bound in time of its own.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        let client = self.client().await?;
        client.batch_execute(sql).await.map_err(Failure::of_sent)
    }

    /// A connection of its own, outside the pool, and what the server says on it unasked.
    pub(super) async fn open(&self) -> Result<(Client, Messages), tokio_postgres::Error> {
        self.tls.connect(&self.listener).await
    }

    /// Whether the last call found that the database cannot be used.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    fn noted(&self, answer: Result<Vec<Row>, Failure>) -> Result<Vec<Row>, Failure> {
        let failure = answer.as_ref().err();
        // A connection that was cut says nothing of the next one.
        if failure.is_some_and(Failure::is_of_cut) {
            return answer;
        }
        let failure = failure.filter(|failure| failure.is_of_database());
        let is_away = failure.is_some();
        if self.is_away() != is_away && self.away.swap(is_away, Ordering::Relaxed) != is_away {
            match failure {
                Some(error) => tracing::warn!(%error, "PostgreSQL cannot be used; trying again"),
                None => tracing::info!("PostgreSQL can be used again"),
            }
        }
        answer
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
