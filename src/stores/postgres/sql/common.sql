-- What the other functions use. `$S` stands for the quoted schema.

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

-- The finaliser of SplitMix64; `>>` keeps the sign, so the shifted-in bits are masked away.
create or replace function $S.mix64(x bigint) returns bigint language plpgsql immutable strict as $$
begin
    x := $S.mul64(x # ((x >> 30) & 17179869183), -4658895280553007687);
    x := $S.mul64(x # ((x >> 27) & 137438953471), -7723592293110705685);
    return x # ((x >> 31) & 8589934591);
end $$;

-- FNV-1a, 64 bits, over 32-bit halves, for bigint overflows.
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

-- `epoch_of` of the crate: the epoch of a channel's log in a place.
create or replace function $S.epoch_of(place bigint, channel text) returns bigint language sql immutable strict as
$$ select $S.mix64($S.fnv(convert_to(channel, 'UTF8')) # $S.mix64(place)) $$;

-- `fingerprint` of the crate: what a key stands for.
create or replace function $S.fingerprint(data bytea, is_text boolean, name text, time_ms bigint) returns bigint
language sql immutable as $$
    select $S.fnv(int8send(coalesce(time_ms, -1)) || convert_to(case when is_text then 't' else 'j' end || coalesce(name, ''), 'UTF8')
        || '\x00' || data)
$$;

-- The channel's row, locked to the end of the transaction; made when there is none, which a `due` of -1 tells.
-- The row is taken before the floor is read, so that a deletion that made room for it is counted in. The floor is read
-- under a lock, for a transaction with an old snapshot must fail and not go on below the floor.
create or replace function $S.lock_channel(p_channel text, p_now bigint) returns $S.channel language plpgsql volatile as $$
declare
    c $S.channel;
    p record;
begin
    loop
        select * into c from $S.channel ch where ch.name = p_channel for update;
        exit when found;
        insert into $S.channel values (p_channel, nextval('$S.log'), 0, 0, 0, 0, false, 0, 0, null, 0, 0, 0, p_now, -1)
        on conflict (name) do nothing returning * into c;
        if found then
            select place.epoch, place.floor into p from $S.place for share;
            c.epoch := $S.epoch_of(p.epoch, p_channel);
            c.seq := p.floor;
            c.earliest_seq := p.floor;
            exit;
        end if;
    end loop;
    return c;
end $$;

-- Drops what retention no longer holds from the low end, at most `p_most` entries; returns the new record.
create or replace function $S.trim(c $S.channel, p_keep bigint[], p_now bigint, p_most bigint) returns $S.channel
language plpgsql volatile as $$
declare
    target bigint := c.seq - p_keep[1];
    old bigint;
    gone record;
begin
    if c.bytes > p_keep[2] then
        -- An entry goes when it and the newer ones together are over the limit; never the newest.
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
        select sum(size) as bytes, max(least(time, appended)) as time, max(tag) filter (where seq = target) as tag into gone from dropped;
        c.earliest_seq := target;
        c.earliest_tag := gone.tag;
        c.bytes := c.bytes - gone.bytes;
        c.dropped_time := greatest(c.dropped_time, gone.time);
        if target = c.seq then
            c.emptied_at := p_now;
        end if;
    end if;
    select e.appended + p_keep[3] + p_keep[3] / 4 into c.trim_at from $S.entry e
    where e.log = c.log and e.seq > c.earliest_seq order by e.seq limit 1;
    c.trim_at := coalesce(c.trim_at, 0);
    update $S.channel ch set earliest_seq = c.earliest_seq, earliest_tag = c.earliest_tag, bytes = c.bytes,
        dropped_time = c.dropped_time, emptied_at = c.emptied_at, trim_at = c.trim_at where ch.name = c.name;
    return c;
end $$;

-- The same for a channel by its name, which may be gone.
create or replace function $S.trim_channel(p_channel text, p_now bigint, p_keep bigint[]) returns void
language plpgsql volatile as $$
declare
    c $S.channel;
begin
    select * into c from $S.channel ch where ch.name = p_channel for update;
    if found then
        perform $S.trim(c, p_keep, greatest(c.stamp, coalesce(p_now, $S.now_ms())), 2000);
    end if;
end $$;

-- Deletes at most `p_most` entries of a log that nobody reads any more.
create or replace function $S.reap(p_log bigint, p_most bigint) returns bigint language plpgsql volatile as $$
declare
    reaped bigint;
begin
    delete from $S.entry where log = p_log and seq <= (
        select max(seq) from (select seq from $S.entry where log = p_log order by seq limit p_most) oldest);
    get diagnostics reaped = row_count;
    if reaped < p_most then
        delete from $S.garbage where log = p_log;
    end if;
    return reaped;
end $$;

-- When the janitor looks at a channel that has entries next.
create or replace function $S.period(p_keep bigint[]) returns bigint language sql immutable as
$$ select greatest(least(p_keep[3], p_keep[4]), 10) $$;
