//! Whatever the rows of a database hold is read or refused, without a panic: for the fuzz target `stored_data`, and as a
//! property test.

use rusqlite::{Connection, Row, types::Value};

use super::{
    channel_row::{ChannelRow, read_name},
    entry_row, notify_file,
};
use crate::{channel::Channel, store::StoreError, stores::chunks::chunks};

/// Reads `bytes` as a row of each table, and as a slot of the notify file: each chunk is a value, its first byte the type.
pub fn decode(bytes: &[u8]) {
    let Ok(channel) = Channel::new("a") else { return };
    let values: Vec<_> = chunks(bytes).take(COLUMNS).map(value).collect();
    let read = |row: &Row<'_>| {
        if let Ok(entry) = entry_row::read(row, &channel, 1, 1) {
            assert_eq!(entry.channel, channel);
        }
        _ = read_name(row, 0);
        let row = ChannelRow::from_row(row).map_err(|error| StoreError::Corrupt(error.into()));
        _ = row.and_then(ChannelRow::validated);
        Ok(())
    };
    CONNECTION.with(|connection| {
        // A missing value is NULL.
        let sql = "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13";
        let Some(mut statement) = connection.as_ref().and_then(|connection| connection.prepare_cached(sql).ok()) else {
            return;
        };
        let values = values.into_iter().chain(std::iter::repeat(Value::Null)).take(COLUMNS);
        _ = statement.query_row(rusqlite::params_from_iter(values), read);
    });
    _ = notify_file::decode(bytes);
}

/// The most columns that a row has.
const COLUMNS: usize = 13;

thread_local! {
    static CONNECTION: Option<Connection> = Connection::open_in_memory().ok();
}

fn value(chunk: &[u8]) -> Value {
    let (kind, rest) = chunk.split_first().unwrap_or((&0, &[]));
    match kind % 5 {
        0 => Value::Null,
        1 => Value::Integer(rest.iter().fold(0, |number, byte| (number << 8) | i64::from(*byte))),
        2 => Value::Real(f64::from_bits(rest.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))),
        3 => Value::Text(String::from_utf8_lossy(rest).into_owned()),
        _ => Value::Blob(rest.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Mostly integers, as in the tables.
    fn row() -> impl Strategy<Value = Vec<u8>> {
        let column = (prop_oneof![4 => Just(1_u8), 1 => any::<u8>()], vec(any::<u8>(), 0..10));
        vec(column, 0..14).prop_map(|columns| {
            let chunk = |(kind, rest): (u8, Vec<u8>)| [vec![rest.len() as u8 + 1, kind], rest].concat();
            columns.into_iter().flat_map(chunk).collect()
        })
    }

    proptest! {
        #[test]
        fn whatever_a_row_holds_is_read_or_refused(bytes in prop_oneof![vec(any::<u8>(), 0..200), row()]) {
            decode(&bytes);
        }
    }
}
