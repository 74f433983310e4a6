//! Retention for channels without writes: old entries, expired keys, unused logs, forgotten channels. Runs on
//! every node, works on one at a time, and commits in pieces, so that no transaction is long and none is wasted.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::{database::Database, error::CallError, settings::Settings, snapshots};
use crate::store::{Health, StoreError, floor};

/// Tidies up periodically, and probes the database all the while, however long tidying takes.
pub(super) async fn run(database: Arc<Database>, settings: Arc<Settings>, every: Duration) -> Infallible {
    let mut tidying = pin!(run_tidying(&database, &settings, every));
    let mut probing = pin!(probe_and_announce(&database, &settings));
    poll_fn(|cx| match (tidying.as_mut().poll(cx), probing.as_mut().poll(cx)) {
        (Poll::Pending, Poll::Pending) => Poll::Pending,
        (Poll::Ready(never), _) | (_, Poll::Ready(never)) => match never {},
    })
    .await
}

async fn run_tidying(database: &Database, settings: &Settings, every: Duration) -> Infallible {
    let mut snapshots = snapshots::OldSnapshotWarning::default();
    loop {
        sleep(every.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        if let Err(error) = tidy(database, settings).await {
            tracing::debug!(%error, "could not tidy up in PostgreSQL");
        }
        snapshots.check(database).await;
    }
}

/// Probes a database that failed, in case no other call does, and announces this node's retention from time to time.
async fn probe_and_announce(database: &Database, settings: &Settings) -> Infallible {
    let mut announced = Instant::now();
    loop {
        sleep(PROBE_EVERY).await;
        if announced.elapsed() >= ANNOUNCE_EVERY {
            announced = Instant::now();
            announce_settings(database, settings).await;
        }
        match database.health() {
            Health::Unavailable => _ = database.read(&database.sql.probe_read, &[]).await,
            Health::ReadOnly if database.write(&database.sql.probe, &[]).await.is_ok() => database.note_writable(),
            _ => {}
        }
    }
}

/// Announces this node's retention, so that other nodes delete nothing of it.
pub(super) async fn announce_settings(database: &Database, settings: &Settings) {
    let (now, keep) = (settings.now(), settings.keep.as_slice());
    let params = [(&now as _, Type::INT8), (&keep as _, Type::INT8_ARRAY)];
    if let Err(error) = database.write(&database.sql.agree, &params).await {
        tracing::debug!(error = %error, "could not announce the retention settings to PostgreSQL");
    }
}

/// Continues until nothing is left to do, or another node is working.
pub(super) async fn tidy(database: &Database, settings: &Settings) -> Result<(), StoreError> {
    let tidied = do_pieces(database, settings).await;
    match &tidied {
        Ok(()) => database.upkeep.janitor_is_done(),
        Err(_) => database.upkeep.janitor_is_behind(),
    }
    tidied
}

async fn do_pieces(database: &Database, settings: &Settings) -> Result<(), StoreError> {
    let mut most = MAX_PIECE;
    loop {
        match piece(database, settings, most).await {
            Ok(0) => return Ok(()),
            Ok(_) => most = (most + most / 4 + 1).min(MAX_PIECE),
            // A piece that exceeds the time limit would do so every time.
            Err(error) if error.is_timeout() && most > 1 => {
                most = (most / 8).max(1);
                // The server may still be working on it.
                sleep(PIECE_DURATION).await;
            }
            Err(error) => return Err(error.into_read_error()),
        }
    }
}

/// Does one piece of the work; returns how much that was.
async fn piece(database: &Database, settings: &Settings, most: i64) -> Result<i64, CallError> {
    let (now, keep, millis) = (settings.now(), settings.keep.as_slice(), PIECE_DURATION.as_millis() as i32);
    let step = floor::raised(0, 0) as i64;
    let params = [
        (&now as _, Type::INT8),
        (&keep as _, Type::INT8_ARRAY),
        (&most as _, Type::INT8),
        (&millis as _, Type::INT4),
        (&step as _, Type::INT8),
    ];
    let rows = database.write(&database.sql.tidy, &params).await?;
    let Some(row) = rows.first() else { return Ok(0) };
    let read = || Ok((row.try_get::<_, Option<i64>>(0)?, row.try_get::<_, Option<Vec<String>>>(1)?, row.try_get(2)?));
    let (done, damaged, why): (_, _, Option<Vec<String>>) =
        read().map_err(|error: tokio_postgres::Error| CallError::Malformed(error.into()))?;
    let damaged = damaged.into_iter().flatten().zip(why.into_iter().flatten());
    for (channel, error) in damaged.filter(|(channel, _)| database.damaged.is_due(channel)) {
        tracing::error!(channel, error, "a channel in PostgreSQL cannot be tidied; it is left as it is");
    }
    Ok(done.unwrap_or(0))
}

/// Most items of each kind in one piece.
const MAX_PIECE: i64 = 1000;

/// About how long a piece takes, and so how long it may delay a writer to one of its channels.
const PIECE_DURATION: Duration = Duration::from_millis(100);

/// How often a node announces its retention. What no node has announced for a minute is no longer kept.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(20);

/// How often a database that failed is probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);
