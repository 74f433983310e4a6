//! The SQL with an application's schema put into it, and the migration. Knows no event.

use tokio_postgres::types::Type;

use super::{database::Database, failure::Failure};
use crate::store::{StoreError, resume};

/// The statements, with the schema's name in them.
#[derive(Debug)]
pub(super) struct Sql {
    /// The schema, which is also the name that nodes notify each other by.
    pub(super) schema: String,
    pub(super) write: String,
    pub(super) write_one: String,
    /// The same, and what it did is told to the other nodes.
    pub(super) write_one_and_tell: String,
    pub(super) trim: String,
    /// As `read`, where there is nothing to decide.
    pub(super) read_on: String,
    pub(super) read: String,
    pub(super) heads: String,
    pub(super) delete: String,
    pub(super) tidy: String,
    pub(super) notify: String,
    pub(super) listen: String,
    version: String,
}

impl Sql {
    /// Takes names that need no thought about quoting: what else would be folded or cut off differently here and there.
    pub(super) fn new(schema: &str) -> Option<Self> {
        let good = |(at, c): (usize, char)| c.is_ascii_lowercase() || c == '_' || (at > 0 && c.is_ascii_digit());
        if schema.is_empty() || schema.len() > MOST_NAME || !schema.char_indices().all(good) {
            return None;
        }
        let with = |sql: &str| sql.replace("$S", &format!("\"{schema}\"")).replace("$N", schema);
        Some(Self {
            write: with(concat!(
                "select w.*, case when $22 is not null and o_status = 0 then pg_notify('$N', $22 || E'\n' || ",
                "$S.cursor_text(o_epoch, o_seq, o_tag) || case when o_closed then '!' else '.' end || $1) end ",
                "from $S.write_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, ",
                "$17, $18, $19, $20, $21) w"
            )),
            write_one: with(&WRITE_ONE.replace("$T", "")),
            write_one_and_tell: with(&WRITE_ONE.replace("$T", TELL)),
            trim: with("select $S.trim_channel($1, $2, $3)"),
            read_on: with(include_str!("sql/read_on.sql")),
            read: with("select * from $S.read_page($1, $2, $3, $4, $5, $6, $7, $8, $9)"),
            heads: with(concat!(
                "select p.epoch, p.floor, c.name, c.epoch, c.seq, c.tag, c.closed ",
                "from $S.place p left join $S.channel c on c.name = any ($1)"
            )),
            delete: with("select * from $S.drop_channel($1, $2, $3)"),
            tidy: with("select $S.tidy($1, $2, $3)"),
            notify: "select pg_notify($1, payload) from unnest($2) payload".to_owned(),
            listen: format!("listen \"{schema}\""),
            version: with("select version from $S.place"),
            schema: schema.to_owned(),
        })
    }

    /// Everything that makes the schema what this version needs; harmless where it is that already. One transaction, for
    /// it is sent as one message.
    fn migration(&self, keep: &[i64; 5]) -> String {
        // Waiting for another node may take longer than a statement of the store should.
        let lock = format!(
            "select set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true);
             select pg_advisory_xact_lock(hashtextextended('tower-events migrate {}', 0));\n",
            self.schema
        );
        let (epoch, version) = (resume::fresh_epoch() as i64, VERSION);
        let place = format!(
            "insert into $S.place (epoch, version, keep) values ({epoch}, {version}, '{{{}}}') on conflict do nothing;
             update $S.place set version = {version} where version < {version};\n",
            keep.map(|limit| limit.to_string()).join(","),
        );
        [
            &lock,
            SCHEMA,
            include_str!("sql/tables.sql"),
            include_str!("sql/common.sql"),
            include_str!("sql/write.sql"),
            include_str!("sql/read.sql"),
            include_str!("sql/tidy.sql"),
            include_str!("sql/outbox.sql"),
            &place,
        ]
        .concat()
        .replace("$S", &format!("\"{}\"", self.schema))
        .replace("$N", &self.schema)
    }
}

/// Brings the schema up to this version. Of many nodes that do so at once, one does the work and the others wait for it.
pub(super) async fn migrate(database: &Database, keep: &[i64; 5]) -> Result<(), StoreError> {
    // A node without the right to create anything finds a schema that someone else has made.
    if database.read(&database.sql.version, &[]).await.is_ok_and(|rows| {
        rows.first().and_then(|row| row.try_get::<_, i32>(0).ok()).is_some_and(|version| version >= VERSION)
    }) {
        return Ok(());
    }
    let encoding = database.read("select current_setting('server_encoding')", &[] as &[(_, Type)]).await;
    let encoding = encoding.map_err(Failure::of_read)?;
    match encoding.first().and_then(|row| row.try_get::<_, &str>(0).ok()) {
        Some("UTF8") => database.batch(&database.sql.migration(keep)).await.map_err(Failure::of_write),
        other => Err(StoreError::Unavailable(format!("the database's encoding is {other:?}; UTF8 is needed").into())),
    }
}

const WRITE_ONE: &str = include_str!("sql/write_one.sql");

const TELL: &str = r", pg_notify('$N', $9 || E'\n' || $S.cursor_text(c.epoch, c.seq, $2) || '.' || $1)";

/// `create schema if not exists` asks for the right to create even when there is nothing to do.
const SCHEMA: &str = r#"
do $do$ begin
    if to_regnamespace('$S') is null then
        create schema $S;
    end if;
end $do$;
"#;

/// Of the schema. A node works with a schema of its own version or a newer one.
const VERSION: i32 = 2;

/// The longest name that PostgreSQL keeps whole.
const MOST_NAME: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_plain_names() {
        for good in ["tower_events", "a", "_x1", &"x".repeat(63)] {
            assert!(Sql::new(good).is_some(), "{good:?}");
        }
        for bad in ["", "1a", "A", "a-b", "a b", "a\"b", "é", "a.b", &"x".repeat(64)] {
            assert!(Sql::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn no_placeholder_is_left_in_the_migration() {
        let sql = Sql::new("my_app").unwrap().migration(&[1, 2, 3, 4, 5]);
        assert!(!sql.contains("$S") && !sql.contains("$N"));
        assert!(sql.contains("\"my_app\".channel") && sql.contains("'{1,2,3,4,5}'"));
    }
}
