//! Opens the store for the conformance suite: each place is a schema of its own on the shared server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_events::{
    Channel, Retention,
    store::Clock,
    stores::postgres::PostgresStore,
    testing::{Harness, Time, Unable},
};

use super::server::{self, Server};

/// The variant of the suite.
pub struct Postgres {
    pub server: &'static Server,
    pub stores: Stores,
    pub clock: Clocks,
    pub statements: Statements,
    /// The URL of a pooler to go through instead.
    pub pooler: Option<String>,
}

/// How many stores a place has.
#[derive(Clone, Copy, PartialEq)]
pub enum Stores {
    /// One, cloned.
    One,
    /// A new one each time it is opened, as on another node.
    Many,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Clocks {
    /// A clock that the suite moves.
    Ours,
    /// The server's clock.
    Servers,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Statements {
    Prepared,
    Unprepared,
}

pub struct Place {
    schema: String,
    retention: Retention,
    now: Arc<AtomicU64>,
    first: PostgresStore,
}

impl Postgres {
    async fn made(&self, schema: String, retention: Retention, now: Arc<AtomicU64>) -> Place {
        let first = self.connect(&schema, &retention, &now).await;
        first.migrate().await.expect("a schema");
        Place { schema, retention, now, first }
    }

    async fn connect(&self, schema: &str, retention: &Retention, now: &Arc<AtomicU64>) -> PostgresStore {
        let url = self.pooler.clone().unwrap_or_else(|| self.server.url());
        let mut options = PostgresStore::options().schema(schema).connections(3);
        options = options.retention(retention.clone()).tidy_every(Duration::from_millis(100));
        if self.clock == Clocks::Ours {
            let now = Arc::clone(now);
            options =
                options.clock(Clock::new(move || now.load(Ordering::SeqCst))).tidy_every(Duration::from_secs(3600));
        }
        if self.statements == Statements::Unprepared {
            options = options.behind_pooler(self.server.url());
        }
        options.connect(&url).await.expect("a store")
    }
}

impl Harness for Postgres {
    type Store = PostgresStore;
    type Place = Place;

    async fn place(&self, retention: Retention) -> Place {
        self.made(fresh_schema(), retention, Arc::new(AtomicU64::new(1_732_094_400_000))).await
    }

    async fn open(&self, place: &Place) -> PostgresStore {
        match self.stores {
            Stores::One => place.first.clone(),
            Stores::Many => self.connect(&place.schema, &place.retention, &place.now).await,
        }
    }

    fn time(&self) -> Time {
        match self.clock {
            Clocks::Ours => Time::Controlled,
            Clocks::Servers => Time::Real { unit: Duration::from_millis(100) },
        }
    }

    async fn advance(&self, place: &Place, by: Duration) {
        if self.clock == Clocks::Servers {
            return tokio::time::sleep(by).await;
        }
        place.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        place.first.tidy().await.expect("a tidy place");
    }

    async fn step_back(&self, place: &Place, by: Duration) -> Result<(), Unable> {
        if self.clock == Clocks::Servers {
            return Err(Unable("the server's clock is the machine's"));
        }
        place.now.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
        Ok(())
    }

    async fn lose_tail(&self, place: &Place, channel: &Channel, n: u64) -> Result<(), Unable> {
        lose_tail(self.server, &place.schema, channel, n).await;
        Ok(())
    }

    async fn reopen(&self, place: Place, retention: Retention) -> Result<Place, Unable> {
        let Place { schema, now, first, .. } = place;
        drop(first);
        let first = self.connect(&schema, &retention, &now).await;
        Ok(Place { schema, retention, now, first })
    }

    /// Drops the schema.
    async fn wipe(&self, place: Place, retention: Retention) -> Place {
        let Place { schema, now, first, .. } = place;
        drop(first);
        client(self.server).await.batch_execute(&format!("drop schema {schema} cascade")).await.expect("a wipe");
        self.made(schema, retention, now).await
    }

    /// Makes the server hang.
    async fn begin_trouble(&self, _: &Place) -> Result<(), Unable> {
        if server::shared().is_some_and(|shared| std::ptr::eq(shared, self.server)) {
            return Err(Unable("other tests use the server"));
        }
        self.server.pause();
        Ok(())
    }

    async fn end_trouble(&self, _: &Place) {
        self.server.unpause();
    }
}

/// A name that no other test has.
pub fn fresh_schema() -> String {
    format!("t{:x}", fastrand::u64(..))
}

/// A connection of the driver.
pub async fn client(server: &Server) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// Removes the newest entries of a channel, as a failover to a standby does that had not received them.
pub async fn lose_tail(server: &Server, schema: &str, channel: &Channel, n: u64) {
    let sql = format!(
        "do $$ declare c {schema}.head; h record; begin
            select * into c from {schema}.head where name = '{channel}' for update;
            select seq - 1 as seq, prev_tag as tag into h from {schema}.entry where log = c.log and seq = c.seq - {n} + 1;
            update {schema}.head set seq = h.seq, tag = h.tag,
                bytes = bytes - (select sum(size) from {schema}.entry where log = c.log and seq > h.seq)
                where name = '{channel}';
            delete from {schema}.entry where log = c.log and seq > h.seq;
            delete from {schema}.key where log = c.log and seq > h.seq;
        end $$"
    );
    client(server).await.batch_execute(&sql).await.expect("a cut");
}
