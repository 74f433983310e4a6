-- What the store calls: each function is one round trip and one transaction. `$S` stands for the quoted schema.

create or replace function $S.now_ms() returns bigint language sql volatile as
$$ select (extract(epoch from clock_timestamp()) * 1000)::bigint $$;

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

-- `epoch_of` of the crate: the epoch of a channel's log in a place. FNV-1a over 32-bit halves, for bigint overflows.
create or replace function $S.epoch_of(place bigint, channel text) returns bigint language plpgsql immutable strict as $$
declare
    name bytea := convert_to(channel, 'UTF8');
    hi bigint := 3421674724; -- 0xcbf29ce4
    lo bigint := 2216829733; -- 0x84222325
    low_product bigint;
begin
    for i in 0 .. octet_length(name) - 1 loop
        lo := lo # get_byte(name, i);
        low_product := lo * 435; -- the prime is 2^40 + 435
        hi := (hi * 435 + (low_product >> 32) + (lo << 8)) & 4294967295;
        lo := low_product & 4294967295;
    end loop;
    return $S.mix64(((hi << 32) | lo) # $S.mix64(place));
end $$;

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
            returning e.seq, e.tag, e.size, e.time
        )
        select sum(size) as bytes, max(time) as time, max(tag) filter (where seq = target) as tag into gone from dropped;
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

-- Appends a batch, or with `p_init` replaces the history. The caller draws the tags; `p_prev_tags` are the same, one later.
-- o_status: 0 done, 1 the expectation does not hold, 2 closed. o_seqs, o_tags and o_times are those of known keys,
-- o_nth is which of the new entries an event became, or repeats; all four are null when no event has a key.
create or replace function $S.write_batch(
    p_channel text, p_now bigint, p_keep bigint[], p_lock_ms integer, p_sync text, p_init bigint,
    p_expect integer, p_epoch bigint, p_seq bigint, p_tag integer, p_close boolean,
    p_data bytea[], p_is_text boolean[], p_names text[], p_times bigint[], p_keys text[], p_tags integer[],
    p_prev_tags integer[], p_sizes integer[], p_bytes bigint,
    out o_status integer, out o_epoch bigint, out o_seq bigint, out o_tag integer, out o_closed boolean,
    out o_base_seq bigint, out o_base_tag integer, out o_stamp bigint,
    out o_seqs bigint[], out o_tags integer[], out o_times bigint[], out o_nth bigint[], out o_fresh boolean[]
) language plpgsql volatile as $$
declare
    c $S.channel;
    made boolean;
    n integer := cardinality(p_tags);
    moment bigint := coalesce(p_now, $S.now_ms());
    brings boolean := n > 0;
    old_log bigint;
begin
    if p_lock_ms is not null then
        perform set_config('lock_timeout', p_lock_ms::text, true);
    end if;
    if p_sync is not null then
        perform set_config('synchronous_commit', p_sync, true);
    end if;
    o_status := 0;
    if p_keys is null and p_expect = 0 and not p_close and p_init is null then
        -- The usual case in one update: nothing to decide.
        update $S.channel ch set
            seq = ch.seq + n, tag = p_tags[n], before_tag = ch.tag, bytes = ch.bytes + p_bytes,
            stamp = greatest(ch.stamp, moment),
            due = case when ch.seq = ch.earliest_seq then moment + $S.period(p_keep) else ch.due end,
            trim_at = case when ch.seq = ch.earliest_seq then greatest(ch.stamp, moment) + p_keep[3] + p_keep[3] / 4
                else ch.trim_at end
        where ch.name = p_channel and not ch.closed returning * into c;
    end if;
    if c.name is not null then
        o_base_seq := c.seq - n;
        o_base_tag := c.before_tag;
    else
        c := $S.lock_channel(p_channel, moment);
        made := c.due = -1;
        if p_keys is not null and p_init is null then
            select array_agg(f.seq order by i), array_agg(f.tag order by i), array_agg(f.time order by i),
                array_agg(case when f.seq is null then f.nth end order by i), array_agg(f.fresh order by i),
                bool_or(f.fresh), count(*) filter (where f.fresh), sum(f.size) filter (where f.fresh)
            into o_seqs, o_tags, o_times, o_nth, o_fresh, brings, n, p_bytes
            from (
                -- Of one key, the first is the new one, and the others say what it became.
                select j.*, min(j.new_before) over (partition by coalesce(j.key, j.i::text), j.key is null) as nth
                from (
                    select m.*, count(*) filter (where m.fresh) over (order by m.i) as new_before
                    from (
                        select u.i, u.key, u.size, k.seq, k.tag, k.time, u.key is null
                            or (k.seq is null and row_number() over (partition by u.key order by u.i) = 1) as fresh
                        from unnest(p_keys, p_sizes) with ordinality as u(key, size, i)
                        left join $S.key k on k.log = c.log and k.key = u.key and k.came > greatest(moment, c.stamp) - p_keep[5]
                    ) m
                ) j
            ) f;
        end if;
        o_epoch := c.epoch; o_seq := c.seq; o_tag := c.tag; o_closed := c.closed;
        o_base_seq := c.seq; o_base_tag := c.tag; o_stamp := c.stamp;
        if p_init is not null or brings or (p_close and not c.closed) then
            if (p_expect = 1 and not made)
                or (p_expect = 2 and (c.epoch, c.seq, c.tag) is distinct from (p_epoch, p_seq, p_tag)) then
                o_status := 1;
            elsif p_init is null and brings and c.closed then
                o_status := 2;
            end if;
        else
            o_status := -1; -- nothing to do, and nothing wrong
        end if;
        if o_status <> 0 then
            o_status := greatest(o_status, 0);
            if made then
                delete from $S.channel ch where ch.name = p_channel;
            end if;
            return;
        end if;
        if p_init is not null then
            if not made then
                old_log := c.log;
                c.log := nextval('$S.log');
                insert into $S.garbage values (old_log);
            end if;
            c.epoch := p_init; c.tag := 0; c.closed := false; c.bytes := 0; c.dropped_time := null;
            c.earliest_seq := c.seq; c.earliest_tag := 0; c.emptied_at := moment;
            o_base_tag := 0;
        end if;
        if c.seq = c.earliest_seq then
            c.due := moment + case when brings then $S.period(p_keep) else p_keep[4] end;
            c.trim_at := greatest(c.stamp, moment) + p_keep[3] + p_keep[3] / 4;
        end if;
        c.stamp := greatest(c.stamp, moment);
        c.seq := c.seq + n;
        c.bytes := c.bytes + coalesce(p_bytes, 0);
        c.closed := c.closed or p_close;
        if o_fresh is null then
            c.tag := coalesce(p_tags[n], c.tag);
        elsif brings then
            select u.tag into c.tag from unnest(p_tags, o_fresh) with ordinality as u(tag, fresh, i)
            where u.fresh order by u.i desc limit 1;
        end if;
        update $S.channel ch set log = c.log, epoch = c.epoch, seq = c.seq, tag = c.tag, before_tag = o_base_tag,
            closed = c.closed, earliest_seq = c.earliest_seq, earliest_tag = c.earliest_tag,
            dropped_time = c.dropped_time, bytes = c.bytes, stamp = c.stamp, trim_at = c.trim_at,
            emptied_at = c.emptied_at, due = c.due
        where ch.name = p_channel;
    end if;

    if o_fresh is null and n = 1 then
        insert into $S.entry values (c.log, c.seq, p_tags[1], o_base_tag, p_sizes[1], c.stamp,
            coalesce(p_times[1], c.stamp), p_is_text[1], p_names[1], p_data[1]);
    elsif o_fresh is null and n > 0 then
        insert into $S.entry
        select c.log, o_base_seq + u.i, u.tag, coalesce(u.prev_tag, o_base_tag), u.size, c.stamp,
            coalesce(u.time, c.stamp), u.is_text, u.name, u.data
        from unnest(p_tags, p_prev_tags, p_sizes, p_times, p_is_text, p_names, p_data)
            with ordinality as u(tag, prev_tag, size, time, is_text, name, data, i);
    elsif n > 0 then
        insert into $S.entry
        select c.log, o_base_seq + row_number() over (order by u.i), u.tag,
            lag(u.tag, 1, o_base_tag) over (order by u.i), u.size, c.stamp,
            coalesce(u.time, c.stamp), u.is_text, u.name, u.data
        from unnest(p_tags, o_fresh, p_sizes, p_times, p_is_text, p_names, p_data)
            with ordinality as u(tag, fresh, size, time, is_text, name, data, i)
        where u.fresh;
        insert into $S.key
        select c.log, u.key, o_base_seq + u.nth, u.tag, coalesce(u.time, c.stamp), c.stamp
        from unnest(p_keys, o_fresh, o_nth, p_tags, p_times) as u(key, fresh, nth, tag, time)
        where u.fresh and u.key is not null
        on conflict (log, key) do update set
            seq = excluded.seq, tag = excluded.tag, time = excluded.time, came = excluded.came;
    end if;

    o_epoch := c.epoch; o_seq := c.seq; o_tag := c.tag; o_closed := c.closed; o_stamp := c.stamp;
    -- A quarter above the limits, so that many entries go at once and most appends delete nothing.
    if c.seq - c.earliest_seq > p_keep[1] + p_keep[1] / 4
        or (c.bytes > p_keep[2] + p_keep[2] / 4 and c.seq - c.earliest_seq > 1)
        or (c.stamp > c.trim_at and c.seq > c.earliest_seq) then
        perform $S.trim(c, p_keep, c.stamp, 1000 + 2 * n);
    end if;
    if old_log is not null then
        perform $S.reap(old_log, 1000);
    end if;
end $$;

-- One consistent snapshot: STABLE, so every statement in it sees what the caller's sees.
-- p_start: 0 earliest, 1 latest, 2 after (p_epoch, p_seq, p_tag), 3 time above p_seq, 4 the last p_seq.
-- Which entries to send for a resume is decided here as `resume::outcome` does; the outcome itself is the caller's.
create or replace function $S.read_page(
    p_channel text, p_now bigint, p_age bigint, p_start integer, p_epoch bigint, p_seq bigint, p_tag integer,
    p_events bigint, p_bytes bigint,
    out o_place bigint, out o_floor bigint, out o_epoch bigint, out o_seq bigint, out o_tag integer, out o_closed boolean,
    out o_earliest_seq bigint, out o_earliest_tag integer, out o_dropped_time bigint,
    out o_from_seq bigint, out o_from_tag integer, out o_at_tag integer, out o_last_match bigint,
    out o_seqs bigint[], out o_tags integer[], out o_prev_tags integer[], out o_appended bigint[], out o_times bigint[],
    out o_is_text boolean[], out o_names text[], out o_data bytea[]
) language plpgsql stable as $$
declare
    c $S.channel;
    young bigint := coalesce(p_now, $S.now_ms()) - p_age;
    above bigint := case when p_start = 3 then p_seq end;
begin
    select epoch, floor into o_place, o_floor from $S.place;
    select * into c from $S.channel ch where ch.name = p_channel;
    if not found then
        return;
    end if;
    o_epoch := c.epoch; o_seq := c.seq; o_tag := c.tag; o_closed := c.closed; o_dropped_time := c.dropped_time;
    -- What is too old is not read, whether or not it was deleted yet.
    select e.seq - 1, e.prev_tag into o_earliest_seq, o_earliest_tag from $S.entry e
    where e.log = c.log and e.seq > c.earliest_seq and e.appended >= young order by e.seq limit 1;
    if not found then
        o_earliest_seq := c.seq;
        o_earliest_tag := c.tag;
    end if;
    o_from_seq := o_earliest_seq;
    o_from_tag := o_earliest_tag;
    if p_start = 1 then
        o_from_seq := c.seq;
        o_from_tag := c.tag;
    elsif p_start = 2 and p_epoch = c.epoch and p_seq between o_earliest_seq and c.seq then
        select case p_seq when c.seq then c.tag when o_earliest_seq then o_earliest_tag
            else (select e.tag from $S.entry e where e.log = c.log and e.seq = p_seq) end into o_at_tag;
        if o_at_tag = p_tag then
            o_from_seq := p_seq;
            o_from_tag := p_tag;
        end if;
    elsif p_start = 3 then
        if o_earliest_seq > c.earliest_seq then
            select greatest(c.dropped_time, max(e.time)) into o_dropped_time from $S.entry e
            where e.log = c.log and e.seq > c.earliest_seq and e.seq <= o_earliest_seq;
        end if;
        select e.seq - 1, e.prev_tag into o_from_seq, o_from_tag from $S.entry e
        where e.log = c.log and e.seq > o_earliest_seq and e.time > above order by e.seq limit 1;
        if not found then
            o_from_seq := c.seq;
            o_from_tag := c.tag;
        end if;
        select e.seq into o_last_match from $S.entry e
        where e.log = c.log and e.seq > o_from_seq and e.time > above order by e.seq desc limit 1;
    elsif p_start = 4 and c.seq - p_seq > o_earliest_seq then
        o_from_seq := c.seq - p_seq;
        select case when o_from_seq = c.seq then c.tag
            else (select e.tag from $S.entry e where e.log = c.log and e.seq = o_from_seq) end into o_from_tag;
    end if;
    if p_events > 0 and o_from_seq < c.seq then
        select array_agg(e.seq), array_agg(e.tag), array_agg(e.prev_tag), array_agg(e.appended), array_agg(e.time),
            array_agg(e.is_text), array_agg(e.name), array_agg(e.data)
        into o_seqs, o_tags, o_prev_tags, o_appended, o_times, o_is_text, o_names, o_data
        from (
            select d.*, sum(d.size) over (order by d.seq) as total, row_number() over (order by d.seq) as nth from (
                select * from $S.entry x
                where x.log = c.log and x.seq > o_from_seq and x.seq <= c.seq and (above is null or x.time > above)
                order by x.seq limit p_events
            ) d order by d.seq
        ) e where e.total <= p_bytes or e.nth = 1;
    end if;
end $$;

-- Forgets the channel; its entries go at once when they are few, else later. Returns the place's epoch and floor, or
-- nothing when there was no such channel.
create or replace function $S.drop_channel(p_channel text, p_lock_ms integer, p_sync text, out o_place bigint, out o_floor bigint)
language plpgsql volatile as $$
declare
    c $S.channel;
begin
    if p_lock_ms is not null then
        perform set_config('lock_timeout', p_lock_ms::text, true);
    end if;
    if p_sync is not null then
        perform set_config('synchronous_commit', p_sync, true);
    end if;
    delete from $S.channel ch where ch.name = p_channel returning * into c;
    if not found then
        return;
    end if;
    insert into $S.garbage values (c.log);
    perform $S.reap(c.log, 1000);
    update $S.place set floor = c.seq where floor < c.seq;
    select epoch, floor into o_place, o_floor from $S.place;
end $$;

-- The janitor's round: expired keys, dead logs, channels that nobody writes to. Returns how much it did, or null when
-- another node is at it.
create or replace function $S.tidy(p_now bigint, p_keep bigint[], p_most bigint) returns bigint language plpgsql volatile as $$
declare
    moment bigint := coalesce(p_now, $S.now_ms());
    c $S.channel;
    done bigint;
    counted bigint;
    dead bigint;
    forgotten bigint := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('tower-events janitor $S', 0)) then
        return null;
    end if;
    perform set_config('lock_timeout', '2000', true);
    update $S.place set keep = p_keep where keep <> p_keep;
    delete from $S.key where ctid = any (array(
        select ctid from $S.key where came <= moment - p_keep[5] order by came limit p_most * 20));
    get diagnostics done = row_count;
    for dead in select log from $S.garbage order by log limit 20 loop
        done := done + 1 + $S.reap(dead, p_most * 20);
    end loop;
    for c in select * from $S.channel ch where ch.due <= moment order by ch.due limit p_most for update skip locked loop
        done := done + 1;
        c := $S.trim(c, p_keep, greatest(moment, c.stamp), p_most * 20);
        if c.seq = c.earliest_seq and moment - c.emptied_at > p_keep[4]
            and not exists (select from $S.key k where k.log = c.log and k.came > moment - p_keep[5]) then
            forgotten := greatest(forgotten, c.seq);
            delete from $S.channel ch where ch.name = c.name;
        else
            -- Nothing to look for in an empty channel before it may be forgotten; the next append sets an earlier time.
            update $S.channel ch set due = moment + $S.period(p_keep) where ch.name = c.name and c.seq > c.earliest_seq;
            if not found then
                update $S.channel ch set due = case
                    when moment - c.emptied_at > p_keep[4] then moment + greatest(p_keep[5], 10) -- a key is remembered
                    else c.emptied_at + p_keep[4] + 1 end
                where ch.name = c.name;
            end if;
        end if;
    end loop;
    update $S.place set floor = forgotten where floor < forgotten;
    return done;
end $$;
