//! The database of notifications. It is the source of truth; events only announce what is stored here.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{http::StatusCode, response::Result};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Notification {
    pub(crate) id: i64,
    pub(crate) sender: String,
    pub(crate) text: String,
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

    /// The key of the tokens, drawn when the database was created.
    pub(crate) fn secret(&self) -> rusqlite::Result<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).query_row("SELECT key FROM secret", [], |row| row.get(0))
    }

    pub(crate) async fn add(&self, owner: &str, sender: &str, text: &str) -> Result<Notification> {
        let (owner, sender, text) = (owner.to_owned(), sender.to_owned(), text.to_owned());
        self.run(move |db| {
            let insert = "INSERT INTO notifications (owner, sender, text) VALUES (?1, ?2, ?3)";
            db.execute(insert, params![owner, sender, text])?;
            Ok(Notification { id: db.last_insert_rowid(), sender, text })
        })
        .await
    }

    /// What the user has not read, the newest first.
    pub(crate) async fn unread(&self, owner: &str) -> Result<Vec<Notification>> {
        let owner = owner.to_owned();
        self.run(move |db| {
            let select = "SELECT id, sender, text FROM notifications WHERE owner = ?1 AND NOT read ORDER BY id DESC";
            let notification =
                |row: &rusqlite::Row<'_>| Ok(Notification { id: row.get(0)?, sender: row.get(1)?, text: row.get(2)? });
            db.prepare(select)?.query_map([owner], notification)?.collect()
        })
        .await
    }

    /// Marks everything read, and returns the newest id of it.
    pub(crate) async fn mark_read(&self, owner: &str) -> Result<i64> {
        let owner = owner.to_owned();
        self.run(move |db| {
            db.execute("UPDATE notifications SET read = 1 WHERE owner = ?1", [&owner])?;
            db.query_row("SELECT coalesce(max(id), 0) FROM notifications WHERE owner = ?1", [&owner], |row| row.get(0))
        })
        .await
    }

    /// From when on, in Unix seconds, tokens of this user are valid.
    pub(crate) async fn valid_from(&self, user: &str) -> Result<u64> {
        let user = user.to_owned();
        let select = "SELECT valid_from FROM users WHERE name = ?1";
        self.run(move |db| Ok(db.query_row(select, [user], |row| row.get(0)).optional()?.unwrap_or(0))).await
    }

    pub(crate) async fn set_valid_from(&self, user: &str, seconds: u64) -> Result<()> {
        let user = user.to_owned();
        self.run(move |db| {
            db.execute("REPLACE INTO users (name, valid_from) VALUES (?1, ?2)", params![user, seconds])?;
            Ok(())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let db = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&db.lock().unwrap_or_else(PoisonError::into_inner))).await;
        match done {
            Ok(Ok(done)) => Ok(done),
            failed => {
                eprintln!("notifications: the database failed: {:?}", failed.map(|done| done.err()));
                Err((StatusCode::SERVICE_UNAVAILABLE, "The database failed. Please try again.").into())
            }
        }
    }
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS notifications (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL,
        sender TEXT NOT NULL,
        text TEXT NOT NULL,
        read INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX IF NOT EXISTS unread ON notifications (owner, id) WHERE NOT read;
    CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, valid_from INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS secret AS SELECT randomblob(32) AS key;
";
