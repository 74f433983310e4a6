//! The SQL statements, with the application's schema inserted. Knows no event.

use super::format::VERSION;
use crate::store::resume;

/// The statements, with the name of the schema inserted.
#[derive(Debug)]
pub(super) struct Sql {
    /// The schema, which is also the name of the notification channel.
    pub(super) schema: String,
    pub(super) write: String,
    pub(super) write_one: String,
    /// As `write_one`, and notifies the other nodes.
    pub(super) write_one_and_notify: String,
    pub(super) trim: String,
    /// As `read`, where there is nothing to decide.
    pub(super) read_following: String,
    pub(super) read: String,
    /// As `heads`, for existing channels only.
    pub(super) heads_of_existing: String,
    pub(super) heads: String,
    pub(super) names: String,
    pub(super) delete: String,
    pub(super) tidy: String,
    pub(super) agree: String,
    pub(super) notify: String,
    pub(super) listen: String,
    /// How full the queue of notifications is. With what the connection is for, which `pg_stat_activity` then shows.
    pub(super) queue_usage: String,
    /// Which versions may use the schema.
    pub(super) format: String,
    /// Whether there is a schema, and whether it has this version.
    pub(super) is_there: String,
    pub(super) is_current: String,
    /// Whether it can be read, and whether it can be written.
    pub(super) probe_read: String,
    pub(super) probe: String,
}

impl Sql {
    /// Accepts only names that mean the same quoted and unquoted: others would be folded or truncated in some places.
    pub(super) fn new(schema: &str) -> Option<Self> {
        let good = |(at, c): (usize, char)| c.is_ascii_lowercase() || c == '_' || (at > 0 && c.is_ascii_digit());
        if schema.is_empty() || schema.len() > MAX_NAME || !schema.char_indices().all(good) {
            return None;
        }
        let with = |sql: &str| fill(sql, schema);
        Some(Self {
            write: with(concat!(
                "select w.*, case when $22 is not null and o_status = 0 then pg_notify('$N', $22 || E'\n' || ",
                "$S.cursor_text(o_epoch, o_seq, o_tag) || case when o_closed then '!' else '.' end || $1) end ",
                "from $S.write_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, ",
                "$17, $18, $19, $20, $21, $V) w"
            )),
            write_one: with(&WRITE_ONE.replace("$T", "")),
            write_one_and_notify: with(&WRITE_ONE.replace("$T", NOTIFY)),
            trim: with("select $S.trim_channel($1, $2, $3, $V)"),
            read_following: with(include_str!("sql/read_following.sql")),
            read: with("select * from $S.read_page($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $V)"),
            heads_of_existing: with(include_str!("sql/heads_of_existing.sql")),
            heads: with(include_str!("sql/heads.sql")),
            names: with(include_str!("sql/names.sql")),
            delete: with("select * from $S.drop_channel($1, $2, $3, $4, $5, $V)"),
            agree: with("select $S.agree(coalesce($1, $S.now_ms()), $2)"),
            tidy: with("select * from $S.tidy($1, $2, $3, $4, $5, $V)"),
            notify: "select pg_notify($1, payload) from unnest($2) payload".to_owned(),
            listen: format!("listen \"{schema}\""),
            queue_usage: format!("select pg_notification_queue_usage() -- listen \"{schema}\""),
            format: with("select version, oldest_reader, oldest_writer from $S.place"),
            is_there: with("select to_regclass('$S.place') is not null"),
            is_current: with("select exists (select from $S.place where version >= $V)"),
            probe_read: with("select $S.admit_reader(version, oldest_reader, $V) from $S.place"),
            probe: with("select $S.probe($V)"),
            schema: schema.to_owned(),
        })
    }

    /// Waits until no other node migrates, which may take longer than the store's statement timeout.
    pub(super) fn migration_lock(&self) -> String {
        format!(
            "select set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true);
             select pg_advisory_xact_lock(hashtextextended('tower-events migrate {}', 0));\n",
            self.schema
        )
    }

    /// Everything that upgrades the schema to this version; harmless if it already has it.
    pub(super) fn migration(&self, keep: &[i64; 5]) -> String {
        let (epoch, version) = (resume::fresh_epoch() as i64, VERSION);
        let place = format!(
            "insert into $S.place (epoch, version, oldest_reader, oldest_writer)
                values ({epoch}, {version}, {version}, {version}) on conflict do nothing;
             insert into $S.kept (keep) values ('{{{}}}') on conflict do nothing;
             update $S.place set version = {version}, oldest_reader = {version}, oldest_writer = {version}
                where version < {version};\n",
            keep.map(|limit| limit.to_string()).join(","),
        );
        let script = [
            SCHEMA,
            include_str!("sql/tables.sql"),
            include_str!("sql/common.sql"),
            include_str!("sql/write.sql"),
            include_str!("sql/read.sql"),
            include_str!("sql/tidy.sql"),
            include_str!("sql/outbox.sql"),
            include_str!("sql/grants.sql"),
            &place,
        ];
        fill(&script.concat(), &self.schema)
    }
}

/// Inserts the schema's name, the notification channel, and this version into a script.
fn fill(sql: &str, schema: &str) -> String {
    sql.replace("$S", &format!("\"{schema}\"")).replace("$N", schema).replace("$V", &VERSION.to_string())
}

const WRITE_ONE: &str = include_str!("sql/write_one.sql");

const NOTIFY: &str = r", pg_notify('$N', $10 || E'\n' || $S.cursor_text(c.epoch, c.seq, $2) || '.' || $1)";

/// `create schema if not exists` requires the right to create even when there is nothing to do.
const SCHEMA: &str = r#"
do $do$ begin
    if to_regnamespace('$S') is null then
        create schema $S;
    end if;
end $do$;
"#;

/// The longest name that PostgreSQL does not truncate.
const MAX_NAME: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_schema_names_are_accepted() {
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
