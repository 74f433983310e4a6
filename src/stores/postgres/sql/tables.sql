-- The tables of one application. Run by `migrate` under an advisory lock, in one transaction with the functions. `$S`
-- stands for the quoted schema.

-- No reads or writes meanwhile. Everything is locked at once, because locking one table after the other would deadlock
-- with transactions that lock in another order. An application with a long transaction delays the upgrade, but nothing
-- else for longer than half a second.
do $do$ declare
    wanted text := (
        select string_agg(format('$S.%I', c.relname), ', ') from pg_class c
        where c.relnamespace = to_regnamespace('$S') and c.relkind = 'r'
            and c.relname in ('place', 'channel', 'entry', 'key', 'garbage', 'floor', 'name', 'head', 'kept', 'asked'));
begin
    while wanted is not null loop
        begin
            perform set_config('lock_timeout', '500', true);
            execute format('lock table %s in access exclusive mode', wanted);
            exit;
        exception when lock_not_available then
            perform pg_sleep(0.5);
        end;
    end loop;
    perform set_config('lock_timeout', '0', true);
end $do$;

-- One row: what the whole place shares. Only a migration updates it, because every statement reads it, and has to step
-- over all its versions while a transaction holds an old snapshot.
create table if not exists $S.place (
    one boolean primary key default true check (one),
    epoch bigint not null,            -- drawn once; 64 bits, read as unsigned
    version integer not null,         -- of this schema
    oldest_reader integer not null,   -- the oldest versions that may read and write
    oldest_writer integer not null
);

-- One row: the retention. Updated when a setting changes.
create table if not exists $S.kept (
    one boolean primary key default true check (one),
    keep bigint[] not null            -- events, bytes, age, forget after, key window (ms)
);

-- One row, which only the janitors read and update, every few seconds.
create table if not exists $S.asked (
    one boolean primary key default true check (one),
    asked bigint[] not null default '{0,0,0,0,0}', -- when a node last announced at least this much of each limit
    sweep text collate "C"            -- the retention has decreased: channels after this name are still to be visited
) with (fillfactor = 25);
insert into $S.asked default values on conflict do nothing;

-- Where absent channels start, by the hash of their names: nothing that was forgotten or deleted had a higher seq.
create table if not exists $S.floor (
    bucket integer primary key,
    floor bigint not null
) with (fillfactor = 25);

-- The existing channels. The primary key decides between two transactions that create the same one, and channels are
-- listed by it.
create table if not exists $S.name (name text collate "C" primary key);

-- One row per channel: its record. The row's lock, held until the commit, makes commit order and seq order the same.
-- Half of each page stays free, so that updates (no indexed column changes) stay in the page and are pruned there.
-- While a transaction holds an old snapshot nothing can be pruned, and a lookup by name steps over all versions since.
-- `gen` keeps these few: the newest come first when it is read downwards. `name` ensures that a channel has one row; a
-- unique index here would step over all versions.
create table if not exists $S.head (
    log bigint not null,              -- identifies the entries; changes with an init
    epoch bigint not null,
    seq bigint not null,              -- of the newest entry
    earliest_seq bigint not null,     -- just before the oldest retained entry
    dropped_time bigint,              -- the largest time of a dropped entry, limited by its append time
    bytes bigint not null,            -- of what is retained
    stamp bigint not null,            -- of the newest append; never decreases
    trim_at bigint not null,          -- an append at or after this stamp looks for entries that are too old
    emptied_at bigint not null,       -- when the last entry was dropped
    due bigint not null,              -- when the janitor visits next
    gen bigint not null generated always as (seq >> 9) stored,
    tag integer not null,             -- of the newest entry: its mark; 32 bits, read as unsigned
    before_tag integer not null,      -- the mark before the last append, which needs it
    earliest_tag integer not null,
    closed boolean not null,
    name text collate "C" not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
create index if not exists head_name on $S.head (name, gen);
create index if not exists head_due on $S.head (due);
create sequence if not exists $S.log as bigint;

-- Never updated: inserted once, deleted oldest first. Vacuum has to run often, or reads step over dead rows.
create table if not exists $S.entry (
    log bigint not null,
    seq bigint not null,
    tag integer not null,
    prev_tag integer not null,
    size integer not null,            -- what it counts towards limits
    appended bigint not null,
    time bigint not null,
    is_text boolean not null,         -- otherwise compact JSON
    name text,
    data bytea not null,
    primary key (log, seq)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 1);

create table if not exists $S.key (
    log bigint not null,
    key text collate "C" not null,
    seq bigint not null,
    tag integer not null,
    time bigint not null,
    came bigint not null,
    print bigint,                     -- the fingerprint of its event; null when a version without fingerprints wrote it
    primary key (log, key)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 1);
create index if not exists key_came on $S.key (came);
alter table $S.key add column if not exists print bigint; -- version 2

-- Logs without readers. Their entries still have to be deleted, a few at a time.
create table if not exists $S.garbage (
    log bigint primary key,
    gone bigint not null default 0    -- up to this seq they are deleted; searching from the start would step over them
);
alter table $S.garbage add column if not exists gone bigint not null default 0; -- version 3
alter table $S.place add column if not exists oldest_reader integer not null default 0; -- version 3
alter table $S.place add column if not exists oldest_writer integer not null default 0; -- version 3

-- Functions with changed parameters would stay beside the new ones. Those that applications call keep their grants.
do $do$ declare
    old regprocedure;
begin
    for old in select p.oid from pg_proc p where p.pronamespace = to_regnamespace('$S') and p.proname in (
        'lock_channel', 'trim', 'trim_channel', 'reap', 'write_batch', 'read_page', 'drop_channel', 'tidy')
    loop
        execute format('drop function %s', old);
    end loop;
    if to_regclass('$S.channel') is not null then -- version 2 and older: one floor, and everything in one table
        insert into $S.floor select bucket, p.floor from generate_series(0, 1023) bucket, $S.place p;
        insert into $S.name select name from $S.channel;
        insert into $S.head (log, epoch, seq, earliest_seq, dropped_time, bytes, stamp, trim_at, emptied_at, due, tag,
            before_tag, earliest_tag, closed, name)
        select log, epoch, seq, earliest_seq, dropped_time, bytes, stamp, trim_at, emptied_at, due, tag, before_tag,
            earliest_tag, closed, name from $S.channel;
        drop table $S.channel;
        insert into $S.kept (keep) select p.keep from $S.place p;
        alter table $S.place drop column floor, drop column keep;
    end if;
end $do$;
insert into $S.floor select bucket, 0 from generate_series(0, 1023) bucket on conflict do nothing;
