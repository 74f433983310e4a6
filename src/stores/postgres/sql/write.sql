-- Appending and replacing. `$S` stands for the quoted schema.

-- Appends events, or with `p_init` replaces the history. The caller draws the tags; `p_prev_tags` are the same, shifted
-- by one. p_expect: 0 any position, where p_seq is one that the channel is known to have reached, so that older
-- versions of its row are skipped; 1 the channel must be new; 2 the position (p_epoch, p_seq, p_tag). o_status: 0 done;
-- 1 the expectation does not hold; 2 closed; 3 the key of event o_reused (counted from 1) stands for another event,
-- with a fingerprint other than the one in p_prints. o_seqs, o_tags and o_times belong to known keys; o_nth is which of
-- the new entries an event became, or repeats. All four are null when no event has a key.
create or replace function $S.write_batch(
    p_channel text, p_now bigint, p_keep bigint[], p_lock_ms integer, p_sync text, p_init bigint,
    p_expect integer, p_epoch bigint, p_seq bigint, p_tag integer, p_close boolean,
    p_data bytea[], p_is_text boolean[], p_names text[], p_times bigint[], p_keys text[], p_tags integer[],
    p_prev_tags integer[], p_sizes integer[], p_bytes bigint, p_prints bigint[], p_version integer,
    out o_status integer, out o_epoch bigint, out o_seq bigint, out o_tag integer, out o_closed boolean,
    out o_base_seq bigint, out o_base_tag integer, out o_stamp bigint,
    out o_seqs bigint[], out o_tags integer[], out o_times bigint[], out o_nth bigint[], out o_fresh boolean[],
    out o_reused bigint
) language plpgsql volatile as $$
declare
    c $S.head;
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
        -- The common case in one update: nothing to decide.
        update $S.head ch set
            seq = ch.seq + n, tag = p_tags[n], before_tag = ch.tag, bytes = ch.bytes + p_bytes,
            stamp = greatest(ch.stamp, moment),
            due = case when ch.seq = ch.earliest_seq then moment + $S.period(p_keep) else ch.due end,
            trim_at = case when ch.seq = ch.earliest_seq then greatest(ch.stamp, moment) + p_keep[3] + p_keep[3] / 4
                else ch.trim_at end
        where ch.name = p_channel and ch.gen >= p_seq >> 9
            and not ch.closed and ch.seq >= ch.earliest_seq and (select p.oldest_writer from $S.place p) <= p_version
        returning * into c;
    end if;
    if c.name is not null then
        o_base_seq := c.seq - n;
        o_base_tag := c.before_tag;
    else
        if coalesce((select p.oldest_writer from $S.place p) > p_version, true) then
            perform $S.admit_writer(p_version);
        end if;
        select * into c from $S.head x where x.name = p_channel order by x.gen desc limit 1 for update;
        if not found then
            c := $S.lock_head(p_channel, moment);
        end if;
        made := c.due = -1;
        if p_init is null and $S.is_damaged(c.earliest_seq, c.seq, c.bytes) then
            perform $S.check_head(c);
        end if;
        if p_keys is not null and p_init is null then
            select array_agg(f.seq order by i), array_agg(f.tag order by i), array_agg(f.time order by i),
                array_agg(case when f.seq is null then f.nth end order by i), array_agg(f.fresh order by i),
                bool_or(f.fresh), count(*) filter (where f.fresh), sum(f.size) filter (where f.fresh),
                min(f.i) filter (where f.key is not null and f.print <> f.stands_for)
            into o_seqs, o_tags, o_times, o_nth, o_fresh, brings, n, p_bytes, o_reused
            from (
                -- Of the events with the same key, the first is new, and the others refer to it.
                select j.*, min(j.new_before) over (partition by coalesce(j.key, j.i::text), j.key is null) as nth
                from (
                    select m.*, count(*) filter (where m.fresh) over (order by m.i) as new_before
                    from (
                        select u.i, u.key, u.size, u.print, k.seq, k.tag, k.time, u.key is null
                            or (k.seq is null and row_number() over (partition by u.key order by u.i) = 1) as fresh,
                            -- A key without a fingerprint matches any event.
                            case when k.seq is not null then coalesce(k.print, u.print)
                                else first_value(u.print) over (partition by u.key order by u.i) end as stands_for
                        from unnest(p_keys, p_sizes, p_prints) with ordinality as u(key, size, print, i)
                        left join $S.key k on k.log = c.log and k.key = u.key
                            and k.came > moment - greatest(p_keep[5], (select a.keep[5] from $S.kept a))
                    ) m
                ) j
            ) f;
        end if;
        o_epoch := c.epoch; o_seq := c.seq; o_tag := c.tag; o_closed := c.closed;
        o_base_seq := c.seq; o_base_tag := c.tag; o_stamp := c.stamp;
        if o_reused is not null then
            o_status := 3;
        elsif p_init is not null or brings or (p_close and not c.closed) then
            if p_init is null and brings and c.closed then
                o_status := 2;
            elsif (p_expect = 1 and not made)
                or (p_expect = 2 and (c.epoch, c.seq, c.tag) is distinct from (p_epoch, p_seq, p_tag)) then
                o_status := 1;
            end if;
        else
            o_status := -1; -- nothing to do, and no error
        end if;
        if o_status <> 0 then
            o_status := greatest(o_status, 0);
            if made then
                delete from $S.head ch where ch.name = p_channel and ch.gen = c.gen;
                delete from $S.name ch where ch.name = p_channel;
            end if;
            return;
        end if;
        if p_init is not null then
            if not made then
                old_log := c.log;
                c.log := nextval('$S.log');
                insert into $S.garbage (log) values (old_log);
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
        update $S.head ch set log = c.log, epoch = c.epoch, seq = c.seq, tag = c.tag, before_tag = o_base_tag,
            closed = c.closed, earliest_seq = c.earliest_seq, earliest_tag = c.earliest_tag,
            dropped_time = c.dropped_time, bytes = c.bytes, stamp = c.stamp, trim_at = c.trim_at,
            emptied_at = c.emptied_at, due = c.due
        where ch.name = p_channel and ch.gen = c.gen returning ch.gen into c.gen;
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
        select c.log, u.key, o_base_seq + u.nth, u.tag, coalesce(u.time, c.stamp), c.stamp, u.print
        from unnest(p_keys, o_fresh, o_nth, p_tags, p_times, p_prints) as u(key, fresh, nth, tag, time, print)
        where u.fresh and u.key is not null
        on conflict (log, key) do update set
            seq = excluded.seq, tag = excluded.tag, time = excluded.time, came = excluded.came, print = excluded.print;
    end if;

    o_epoch := c.epoch; o_seq := c.seq; o_tag := c.tag; o_closed := c.closed; o_stamp := c.stamp;
    -- A quarter above the limits, so that many entries are deleted at once and most appends delete none.
    if c.seq - c.earliest_seq > p_keep[1] + p_keep[1] / 4
        or (c.bytes > p_keep[2] + p_keep[2] / 4 and c.seq - c.earliest_seq > 1)
        or (moment > c.trim_at and c.seq > c.earliest_seq) then
        begin
            perform $S.trim(c, $S.agreed(p_keep), moment, 1000 + 2 * n);
        exception when data_corrupted then
            null; -- the janitor reports it; the append does not fail for it
        end;
    end if;
    if old_log is not null then
        perform $S.reap(old_log, 1000);
    end if;
end $$;
