-- The tables of one application. Run by `migrate` under an advisory lock, as one transaction with the functions. `$S` stands
-- for the quoted schema.

-- Nobody reads or writes meanwhile. All is locked at once, for to lock one after the other would be a deadlock with those who
-- lock in another order. An application that is in a transaction for long keeps the upgrade waiting, but nobody else for
-- longer than half a second.
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

-- One row: what the whole place shares. Only a migration updates it, for every statement reads it, and while a transaction has
-- an old snapshot steps over all its versions.
create table if not exists $S.place (
    one boolean primary key default true check (one),
    epoch bigint not null,            -- drawn once; 64 bits, read as unsigned
    version integer not null,         -- of this schema
    oldest_reader integer not null,   -- the oldest version that may read, and that may write
    oldest_writer integer not null
);

-- One row: what is kept. Updated when a setting changes.
create table if not exists $S.kept (
    one boolean primary key default true check (one),
    keep bigint[] not null            -- events, bytes, age, forget after, key window (ms)
);

-- One row, which the janitors read and update every few seconds, and nobody else.
create table if not exists $S.asked (
    one boolean primary key default true check (one),
    asked bigint[] not null default '{0,0,0,0,0}', -- when a node last asked for so much of each that is kept
    sweep text collate "C"            -- less is kept than before: channels after this name are still to be looked at for it
) with (fillfactor = 25);
insert into $S.asked default values on conflict do nothing;

-- Where absent channels begin, by the hash of their names: nothing that was forgotten or deleted had a higher seq.
create table if not exists $S.floor (
    bucket integer primary key,
    floor bigint not null
) with (fillfactor = 25);

-- The channels there are. The primary key decides between two that make the same one, and channels are listed by it.
create table if not exists $S.name (name text collate "C" primary key);

-- One row per channel: its record. The row's lock, held to the commit, makes commit order and seq order one.
-- Half of each page stays free, so that updates (no indexed column changes) stay in the page and vacuum themselves.
-- While a transaction has an old snapshot nothing can be vacuumed, and whoever looks a row up by its name steps over all
-- its versions since. `gen` keeps these few: the newest come first when it is read downwards. It is the place of `name` to
-- say that a channel has one row; a unique index here would step over them all.
create table if not exists $S.head (
    log bigint not null,              -- whose entries; another one after an init
    epoch bigint not null,
    seq bigint not null,              -- of the newest entry
    earliest_seq bigint not null,     -- just before the oldest retained entry
    dropped_time bigint,              -- the largest time of an entry that was dropped, none above its append
    bytes bigint not null,            -- of what is retained
    stamp bigint not null,            -- of the newest append; never goes back
    trim_at bigint not null,          -- an append at or after this stamp looks for entries that are too old
    emptied_at bigint not null,       -- when the last entry went
    due bigint not null,              -- when the janitor looks next
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

-- Never updated: inserted once, deleted from the low end. Vacuum has to come often, or reads step over the dead.
create table if not exists $S.entry (
    log bigint not null,
    seq bigint not null,
    tag integer not null,
    prev_tag integer not null,
    size integer not null,            -- what it counts in limits
    appended bigint not null,
    time bigint not null,
    is_text boolean not null,         -- else compact JSON
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
    print bigint,                     -- the fingerprint of its event; null when a version without them wrote it
    primary key (log, key)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 1);
create index if not exists key_came on $S.key (came);
alter table $S.key add column if not exists print bigint; -- version 2

-- Logs that nobody reads any more, whose entries still have to go, a few at a time.
create table if not exists $S.garbage (
    log bigint primary key,
    gone bigint not null default 0    -- up to this seq they went; to look for the rest from the start would step over them
);
alter table $S.garbage add column if not exists gone bigint not null default 0; -- version 3
alter table $S.place add column if not exists oldest_reader integer not null default 0; -- version 3
alter table $S.place add column if not exists oldest_writer integer not null default 0; -- version 3

-- Functions whose parameters changed would stay beside the new ones. Those that applications call keep their grants.
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
