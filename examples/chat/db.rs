//! The database of messages. It is the source of truth; the event channel only announces what is stored here.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

/// One message, as it is stored and as its event carries it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: i64,
    pub(crate) time: u64,
    pub(crate) user: String,
    pub(crate) content: String,
}

/// A message before it is stored.
pub(crate) struct Draft {
    pub(crate) user: String,
    pub(crate) content: String,
    /// Identifies the message: inserting the same key again changes nothing.
    pub(crate) key: Option<String>,
}

/// Cheap to clone. Every call runs on a thread that may block.
#[derive(Clone)]
pub(crate) struct Db(Arc<Mutex<Connection>>);

impl Db {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Stores a message and returns its id. It is not announced yet.
    pub(crate) async fn insert(&self, draft: Draft) -> rusqlite::Result<i64> {
        self.run(move |db| {
            let Draft { user, content, key } = draft;
            let insert = "INSERT INTO messages (time, user, content, key) VALUES (?1, ?2, ?3, ?4) \
                          ON CONFLICT (key) DO NOTHING RETURNING id";
            let inserted = db.query_row(insert, params![now(), user, content, key], |row| row.get(0)).optional()?;
            match inserted {
                Some(id) => Ok(id),
                None => db.query_row("SELECT id FROM messages WHERE key = ?1", [key], |row| row.get(0)),
            }
        })
        .await
    }

    /// The newest `most` messages, oldest first.
    pub(crate) async fn last(&self, most: u64) -> rusqlite::Result<Vec<Message>> {
        let select =
            "SELECT * FROM (SELECT id, time, user, content FROM messages ORDER BY id DESC LIMIT ?1) ORDER BY id";
        self.select(select, most).await
    }

    /// The oldest `most` messages that have not been announced, oldest first.
    pub(crate) async fn unannounced(&self, most: u64) -> rusqlite::Result<Vec<Message>> {
        let select = "SELECT id, time, user, content FROM messages WHERE announced = 0 ORDER BY id LIMIT ?1";
        self.select(select, most).await
    }

    /// Records that every message up to `id` has been announced.
    pub(crate) async fn mark_announced(&self, id: i64) -> rusqlite::Result<()> {
        self.run(move |db| {
            db.execute("UPDATE messages SET announced = 1 WHERE announced = 0 AND id <= ?1", [id])?;
            Ok(())
        })
        .await
    }

    async fn select(&self, sql: &'static str, most: u64) -> rusqlite::Result<Vec<Message>> {
        self.run(move |db| db.prepare(sql)?.query_map([most], message)?.collect()).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let db = self.0.clone();
        let work = move || work(&db.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message { id: row.get(0)?, time: row.get(1)?, user: row.get(2)?, content: row.get(3)? })
}

/// Unix time in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time INTEGER NOT NULL,
        user TEXT NOT NULL,
        content TEXT NOT NULL,
        key TEXT UNIQUE,
        announced INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX IF NOT EXISTS unannounced ON messages (id) WHERE announced = 0;
";
