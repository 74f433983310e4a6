//! Retention where nobody writes: old entries, expired keys, dead logs, forgotten channels. Runs on every node and does the
//! work on one at a time; bounded steps, so that no transaction is long. Knows no reader.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::{Settings, database::Database, failure::Failure};
use crate::store::StoreError;

/// Tidies up every now and then, for ever.
pub(super) async fn run(database: Arc<Database>, settings: Arc<Settings>, every: Duration) {
    loop {
        sleep(every.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        if let Err(error) = tidy(&database, &settings).await {
            tracing::debug!(%error, "could not tidy up in PostgreSQL");
        }
    }
}

/// Goes on until nothing is left to do, or another node is at it.
pub(super) async fn tidy(database: &Database, settings: &Settings) -> Result<(), StoreError> {
    while round(database, settings).await.map_err(Failure::of_read)? > 0 {}
    Ok(())
}

async fn round(database: &Database, settings: &Settings) -> Result<i64, Failure> {
    let (now, keep) = (settings.now(), settings.keep.as_slice());
    let params = [(&now as _, Type::INT8), (&keep as _, Type::INT8_ARRAY), (&MOST as _, Type::INT8)];
    let rows = database.write(&database.sql.tidy, &params).await?;
    let done = rows.first().map(|row| row.try_get::<_, Option<i64>>(0)).transpose();
    Ok(done.map_err(|error| Failure::Strange(error.into()))?.flatten().unwrap_or(0))
}

/// Most channels of one transaction: so long may a writer to one of them wait.
const MOST: i64 = 50;
