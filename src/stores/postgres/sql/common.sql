-- Functions that the others use. `$S` stands for the quoted schema.

create or replace function $S.now_ms() returns bigint language sql volatile as
$$ select (date_part('epoch', clock_timestamp()) * 1000)::bigint $$;

-- The text form of a cursor: version, epoch, seq and tag as base64url of 21 bytes.
create or replace function $S.cursor_text(epoch bigint, seq bigint, tag integer) returns text language sql immutable as
$$ select translate(encode('\x01' || int8send(epoch) || int8send(seq) || int4send(tag), 'base64'), '+/', '-_') $$;

-- a * b modulo 2^64, for bigints read as unsigned.
create or replace function $S.mul64(a bigint, b bigint) returns bigint language plpgsql immutable strict as $$
declare
    two64 constant numeric := 18446744073709551616;
    product numeric := mod((case when a < 0 then a + two64 else a end) * (case when b < 0 then b + two64 else b end), two64);
begin
    return case when product > 9223372036854775807 then product - two64 else product end;
end $$;

-- The finaliser of SplitMix64. `>>` keeps the sign, so the shifted-in bits are masked out.
create or replace function $S.mix64(x bigint) returns bigint language plpgsql immutable strict as $$
begin
    x := $S.mul64(x # ((x >> 30) & 17179869183), -4658895280553007687);
    x := $S.mul64(x # ((x >> 27) & 137438953471), -7723592293110705685);
    return x # ((x >> 31) & 8589934591);
end $$;

-- FNV-1a, 64 bits, computed in 32-bit halves because bigint overflows.
create or replace function $S.fnv(data bytea) returns bigint language plpgsql immutable strict as $$
declare
    hi bigint := 3421674724; -- 0xcbf29ce4
    lo bigint := 2216829733; -- 0x84222325
    low_product bigint;
begin
    for i in 0 .. octet_length(data) - 1 loop
        lo := lo # get_byte(data, i);
        low_product := lo * 435; -- the prime is 2^40 + 435
        hi := (hi * 435 + (low_product >> 32) + (lo << 8)) & 4294967295;
        lo := low_product & 4294967295;
    end loop;
    return (hi << 32) | lo;
end $$;

-- The crate's `epoch_of`: the epoch of a channel's log in a place.
create or replace function $S.epoch_of(place bigint, channel text) returns bigint language sql immutable strict as
$$ select $S.mix64($S.fnv(convert_to(channel, 'UTF8')) # $S.mix64(place)) $$;

-- The crate's `fingerprint`: what a key stands for.
create or replace function $S.fingerprint(data bytea, is_text boolean, name text, time_ms bigint) returns bigint
language sql immutable as $$
    select $S.fnv(int8send(coalesce(time_ms, -1)) || convert_to(case when is_text then 't' else 'j' end || coalesce(name, ''), 'UTF8')
        || '\x00' || data)
$$;

-- The bucket of a channel's floor, by the hash of its name.
create or replace function $S.bucket_at(hash bigint) returns integer language sql immutable strict as
$$ select ((hash # ((hash >> 32) & 4294967295)) & 1023)::integer $$;

create or replace function $S.bucket_of(channel text) returns integer language plpgsql immutable strict as $$
declare
    hash bigint := $S.fnv(convert_to(channel, 'UTF8'));
begin
    return $S.bucket_at(hash);
end $$;

-- Refuses callers of a version that may not write any more.
create or replace function $S.admit_writer(p_version integer) returns void language plpgsql volatile as $$
declare
    p record;
begin
    select version, oldest_writer into p from $S.place;
    if p.oldest_writer is null then
        raise exception 'the place has no row' using errcode = 'data_corrupted';
    elsif p.oldest_writer > p_version then
        raise exception 'version % of the schema may be written from version % on, not by version %',
            p.version, p.oldest_writer, p_version using errcode = 'TE001', detail = p.version, hint = 'write';
    end if;
end $$;

-- Refuses callers of a version that may not even read; otherwise returns true.
create or replace function $S.admit_reader(version integer, oldest integer, p_version integer) returns boolean
language plpgsql immutable as $$
begin
    if oldest > p_version then
        raise exception 'version % of the schema may be read from version % on, not by version %', version, oldest, p_version
            using errcode = 'TE001', detail = version, hint = 'read';
    end if;
    return true;
end $$;

-- Fails with a serialization failure in a transaction with a snapshot older than the floor. The lock that detects
-- this is released at once, with the subtransaction: a deletion must not wait until the caller commits.
create or replace function $S.check_snapshot(p_bucket integer) returns void language plpgsql volatile as $$
begin
    perform from $S.floor f where f.bucket = p_bucket for share;
    raise exception using errcode = 'TE002';
exception when sqlstate 'TE002' then
    null;
end $$;

-- The channel's row, locked until the end of the transaction, for a channel that was not found; created if there is
-- none, which a `due` of -1 indicates.
--
-- Nothing locks the floor, so it may rise between the creation of the channel and its commit. A reader that asks for
-- the absent channel in between gets a position ahead of the channel's start, and is reset when it comes back with it;
-- nothing is lost, because no entry has the mark of such a position. Nothing is skipped either: the removal of a
-- channel always raises the floor, so a position of the absent channel never dates from before an earlier life of it. A
-- channel must not start at the floor from before such a life. Hence the name is inserted first, and the floor read
-- after it: a deletion that freed the name is then included, and no other life can follow. A snapshot from before is
-- detected.
create or replace function $S.lock_head(p_channel text, p_now bigint) returns $S.head language plpgsql volatile as $$
declare
    h $S.head;
    hash bigint := $S.fnv(convert_to(p_channel, 'UTF8'));
    b integer := $S.bucket_at(hash);
    tries integer := 0;
begin
    loop
        insert into $S.name values (p_channel) on conflict do nothing;
        if found then
            if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
                perform $S.check_snapshot(b);
            end if;
            insert into $S.head (log, epoch, seq, earliest_seq, bytes, stamp, trim_at, emptied_at, due, tag, before_tag,
                earliest_tag, closed, name)
            select nextval('$S.log'), $S.mix64(hash # $S.mix64(p.epoch)), f.floor, f.floor, 0, 0, 0, p_now, -1, 0, 0, 0,
                false, p_channel
            from $S.place p, $S.floor f where f.bucket = b returning * into h;
            if not found then
                raise exception 'the floor has no row for the channel %', p_channel using errcode = 'data_corrupted';
            end if;
            exit;
        end if;
        select * into h from $S.head x where x.name = p_channel order by x.gen desc limit 1 for update;
        exit when found;
        tries := tries + 1;
        if tries > 100 then
            raise exception 'the channel % has no record', p_channel using errcode = 'data_corrupted';
        end if;
    end loop;
    return h;
end $$;

-- Removes a channel, except for its floor; its row is locked. Its entries are deleted at once if they are few,
-- otherwise later.
create or replace function $S.end_channel(h $S.head, p_most bigint) returns void language plpgsql volatile as $$
begin
    delete from $S.head x where x.name = h.name and x.gen = h.gen;
    delete from $S.name n where n.name = h.name;
    insert into $S.garbage (log) values (h.log) on conflict do nothing;
    perform $S.reap(h.log, p_most);
end $$;

-- Whether a record is impossible: whatever is appended to it would be lost.
create or replace function $S.is_damaged(earliest_seq bigint, seq bigint, bytes bigint) returns boolean
language sql immutable as $$ select earliest_seq > seq or seq < 0 or bytes < 0 $$;

-- Refuses an impossible record.
create or replace function $S.check_head(h $S.head) returns void language plpgsql immutable as $$
begin
    if $S.is_damaged(h.earliest_seq, h.seq, h.bytes) then
        raise exception 'the record of the channel % is damaged', h.name using errcode = 'data_corrupted';
    end if;
end $$;

-- Refuses an invalid channel name.
create or replace function $S.check_channel(channel text) returns void language plpgsql immutable as $$
begin
    if channel is null or octet_length(convert_to(channel, 'UTF8')) not between 1 and 255
        or channel ~ '[\u0001-\u001f\u007f-\u009f]' then
        raise exception 'not a channel: 1 to 255 bytes without control characters' using errcode = '22023';
    end if;
end $$;

-- Deletes what retention no longer holds, oldest first, at most `p_most` entries; returns the new record.
create or replace function $S.trim(c $S.head, p_keep bigint[], p_now bigint, p_most bigint) returns $S.head
language plpgsql volatile as $$
declare
    target bigint := c.seq - p_keep[1];
    old bigint;
    gone record;
begin
    if p_keep is null then
        raise exception 'it is not known what is kept' using errcode = 'data_corrupted';
    end if;
    if c.bytes > p_keep[2] then
        -- An entry is deleted when it and the newer ones together exceed the limit; the newest never is.
        select max(e.seq) into old from (
            select seq, sum(size) over (order by seq) - size as before from (
                select seq, size from $S.entry where log = c.log and seq > c.earliest_seq and seq < c.seq
                order by seq limit p_most
            ) oldest
        ) e where c.bytes - e.before > p_keep[2];
        target := greatest(target, old);
    end if;
    select e.seq - 1 into old from $S.entry e
    where e.log = c.log and e.seq > c.earliest_seq and e.appended >= p_now - p_keep[3] order by e.seq limit 1;
    target := least(greatest(target, coalesce(old, c.seq)), c.earliest_seq + p_most);
    if target > c.earliest_seq then
        with dropped as (
            delete from $S.entry e where e.log = c.log and e.seq > c.earliest_seq and e.seq <= target
            returning e.seq, e.tag, e.size, e.time, e.appended
        )
        select coalesce(sum(size), 0) as bytes, max(least(time, appended)) as time, max(tag) filter (where seq = target) as tag
        into gone from dropped;
        if gone.tag is null then
            -- The entry is missing; the next one has its mark.
            select case when target = c.seq then c.tag
                else (select e.prev_tag from $S.entry e where e.log = c.log and e.seq = target + 1) end into gone.tag;
        end if;
        if gone.tag is null then
            raise exception 'the channel % lacks the entries % and %', c.name, target, target + 1 using errcode = 'data_corrupted';
        end if;
        c.earliest_seq := target;
        c.earliest_tag := gone.tag;
        c.bytes := greatest(c.bytes - gone.bytes, 0);
        c.dropped_time := greatest(c.dropped_time, gone.time);
        if target = c.seq then
            c.emptied_at := p_now;
        end if;
    end if;
    select e.appended + p_keep[3] + p_keep[3] / 4 into c.trim_at from $S.entry e
    where e.log = c.log and e.seq > c.earliest_seq order by e.seq limit 1;
    c.trim_at := coalesce(c.trim_at, 0);
    update $S.head x set earliest_seq = c.earliest_seq, earliest_tag = c.earliest_tag, bytes = c.bytes,
        dropped_time = c.dropped_time, emptied_at = c.emptied_at, trim_at = c.trim_at where x.name = c.name and x.gen = c.gen;
    return c;
end $$;

-- The retention that applies when a node asks for `p_keep`: of each limit the largest that any node announced in the
-- last minute, so that nodes with other settings, or older versions during an upgrade, delete nothing that this node
-- has to keep.
create or replace function $S.agree(p_now bigint, p_keep bigint[]) returns bigint[] language plpgsql volatile as $$
declare
    agreed bigint[];
    moments bigint[];
    is_less boolean;
begin
    select k.keep, a.asked into agreed, moments from $S.kept k, $S.asked a;
    if agreed = p_keep and p_now - (select min(m) from unnest(moments) m) between 0 and 5000 then
        return agreed;
    end if;
    -- One transaction at a time; the retention is read after the lock is acquired.
    select a.asked into moments from $S.asked a for update;
    select array_agg(case when m.wins then m.mine else m.kept end order by m.i),
        array_agg(case when m.wins then p_now else least(m.asked, p_now) end order by m.i), bool_or(m.wins and m.mine < m.kept)
    into agreed, moments, is_less
    from (
        select u.*, u.mine >= u.kept or u.asked < p_now - 60000 as wins
        from $S.kept k, unnest(p_keep, k.keep, moments) with ordinality u(mine, kept, asked, i)
    ) m;
    if agreed is null then
        raise exception 'it is not known what is kept' using errcode = 'data_corrupted';
    end if;
    update $S.kept k set keep = agreed where k.keep <> agreed;
    update $S.asked a set asked = moments, sweep = case when is_less then '' else a.sweep end;
    return agreed;
end $$;

-- As `agree`, without announcing anything.
create or replace function $S.agreed(p_keep bigint[]) returns bigint[] language sql stable as $$
    select array_agg(greatest(u.mine, u.kept) order by u.i)
    from $S.kept k, unnest(p_keep, k.keep) with ordinality u(mine, kept, i)
$$;

-- As `trim`, for a channel by its name, which may be gone.
create or replace function $S.trim_channel(p_channel text, p_now bigint, p_keep bigint[], p_version integer) returns void
language plpgsql volatile as $$
declare
    c $S.head;
begin
    perform $S.admit_writer(p_version);
    select * into c from $S.head x where x.name = p_channel order by x.gen desc limit 1 for update;
    if found then
        perform $S.trim(c, $S.agreed(p_keep), coalesce(p_now, $S.now_ms()), 2000);
    end if;
end $$;

-- Deletes at most `p_most` entries of a log that has no readers any more; returns how many. Continues where the last
-- call stopped.
create or replace function $S.reap(p_log bigint, p_most bigint) returns bigint language plpgsql volatile as $$
declare
    already bigint;
    last bigint;
    reaped bigint;
begin
    select gone into already from $S.garbage where log = p_log for update;
    select max(seq) into last from (
        select seq from $S.entry where log = p_log and seq > already order by seq limit p_most) oldest;
    delete from $S.entry where log = p_log and seq > already and seq <= last;
    get diagnostics reaped = row_count;
    if reaped < p_most then
        delete from $S.garbage where log = p_log;
    else
        update $S.garbage set gone = last where log = p_log;
    end if;
    return reaped;
end $$;

-- How long after an append the janitor visits a channel with entries.
create or replace function $S.period(p_keep bigint[]) returns bigint language sql immutable as
$$ select greatest(least(p_keep[3], p_keep[4]), 10) $$;

-- When a channel of a bucket may be forgotten, at `p_from` or later: each bucket has four turns in the time that
-- records are kept. All channels that are forgotten in one turn raise the bucket's floor once, which resets readers of
-- absent channels.
create or replace function $S.turn(p_bucket integer, p_keep bigint[], p_from bigint) returns bigint language plpgsql immutable as $$
declare
    period bigint := greatest(p_keep[4] / 4, 1);
    lag bigint := (p_from - p_bucket * (period / 1024)) % period;
begin
    return case when lag > 0 then p_from + period - lag else p_from - lag end;
end $$;
