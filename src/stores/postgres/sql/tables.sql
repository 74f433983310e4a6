-- The tables of one application. Run by `migrate` under an advisory lock, as one transaction with the functions. `$S` stands for the quoted schema.

-- One row: what the whole place shares.
create table if not exists $S.place (
    one boolean primary key default true check (one),
    epoch bigint not null,            -- drawn once; 64 bits, read as unsigned
    floor bigint not null default 0,  -- nothing forgotten or deleted had a higher seq
    version integer not null,         -- of this schema
    keep bigint[] not null            -- events, bytes, age, forget after, key window (ms): what the nodes keep
);

-- One row per channel: its record. The row's lock, held to the commit, makes commit order and seq order one.
-- Half of each page stays free, so that updates (no indexed column changes) stay in the page and vacuum themselves.
create table if not exists $S.channel (
    name text collate "C" primary key,
    log bigint not null,              -- whose entries; another one after an init
    epoch bigint not null,
    seq bigint not null,              -- of the newest entry
    tag integer not null,             -- its mark; 32 bits, read as unsigned
    before_tag integer not null,      -- the mark before the last append, which needs it
    closed boolean not null,
    earliest_seq bigint not null,     -- just before the oldest retained entry
    earliest_tag integer not null,
    dropped_time bigint,              -- the largest time of an entry that was dropped, none above its append
    bytes bigint not null,            -- of what is retained
    stamp bigint not null,            -- of the newest append; never goes back
    trim_at bigint not null,          -- an append at or after this stamp looks for entries that are too old
    emptied_at bigint not null,       -- when the last entry went
    due bigint not null               -- when the janitor looks next
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
create index if not exists channel_due on $S.channel (due);
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
create table if not exists $S.garbage (log bigint primary key);
