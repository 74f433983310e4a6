//! Warns about transactions that stay open for long: while one holds an old snapshot, rows that were deleted or
//! replaced since cannot be removed, and the whole database slows down.

use std::time::Duration;

use tokio::time::Instant;

use super::database::Database;

/// Checks the age of the oldest snapshot.
#[derive(Default)]
pub(super) struct OldSnapshotWarning {
    warned: Option<Instant>,
}

impl OldSnapshotWarning {
    /// Warns of a snapshot that is too old, every few minutes.
    pub(super) async fn check(&mut self, database: &Database) {
        // The server shows a role what other roles do only with `pg_read_all_stats`.
        let Ok(rows) = database.read(OLDEST_SNAPSHOT, &[]).await else { return };
        let oldest = rows.first().and_then(|row| row.try_get::<_, Option<f64>>(0).ok()?);
        let age = oldest.map_or(Duration::ZERO, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        if age < WARN_AFTER {
            self.warned = None;
        } else if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                seconds = age.as_secs(),
                "a transaction in PostgreSQL has held a snapshot for long (`backend_xmin` in `pg_stat_activity`); rows that are \
                 deleted or replaced meanwhile cannot be removed"
            );
        }
    }
}

/// The age of the oldest snapshot in seconds. A prepared transaction holds its snapshot without a session.
const OLDEST_SNAPSHOT: &str = "
    select extract(epoch from max(age))::float8 from (
        select clock_timestamp() - xact_start as age from pg_stat_activity
        where backend_xmin is not null and backend_type = 'client backend' and datname = current_database()
        union all
        select clock_timestamp() - prepared from pg_prepared_xacts where database = current_database()
    ) snapshots";

/// The age from which to warn.
const WARN_AFTER: Duration = Duration::from_secs(60);

/// How often to repeat the warning.
const WARN_EVERY: Duration = Duration::from_secs(600);
