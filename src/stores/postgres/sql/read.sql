-- Reading. `$S` stands for the quoted schema.

-- One consistent snapshot: STABLE, so every statement in it sees what the caller's statement sees.
-- p_start: 0 earliest, 1 latest, 2 after (p_epoch, p_seq, p_tag), 3 time above p_seq, 4 the last p_seq.
-- Which entries to send for a resume is decided here in the same way as `resume::outcome` decides; the outcome itself
-- is decided by the caller.
create or replace function $S.read_page(
    p_channel text, p_now bigint, p_age bigint, p_start integer, p_epoch bigint, p_seq bigint, p_tag integer,
    p_events bigint, p_bytes bigint, p_bucket integer, p_version integer,
    out o_place bigint, out o_floor bigint, out o_epoch bigint, out o_seq bigint, out o_tag integer, out o_closed boolean,
    out o_earliest_seq bigint, out o_earliest_tag integer, out o_dropped_time bigint,
    out o_from_seq bigint, out o_from_tag integer, out o_at_tag integer, out o_last_match bigint,
    out o_seqs bigint[], out o_tags integer[], out o_prev_tags integer[], out o_appended bigint[], out o_times bigint[],
    out o_is_text boolean[], out o_names text[], out o_data bytea[]
) language plpgsql stable as $$
declare
    c record;
    young bigint;
    above bigint := case when p_start = 3 then p_seq end;
begin
    select p.epoch as place, p.version, p.oldest_reader, (select k.keep[3] from $S.kept k) as age, h.* into c
    from $S.place p left join lateral (
        select x.log, x.epoch, x.seq, x.tag, x.closed, x.earliest_seq, x.bytes, x.dropped_time
        from $S.head x where x.name = p_channel order by x.gen desc limit 1
    ) h on true;
    if c.oldest_reader > p_version then
        perform $S.admit_reader(c.version, c.oldest_reader, p_version);
    elsif c.log is null then
        o_place := c.place;
        select f.floor into o_floor from $S.floor f where f.bucket = p_bucket;
        return;
    elsif $S.is_damaged(c.earliest_seq, c.seq, c.bytes) then
        raise exception 'the record of the channel % is damaged', p_channel using errcode = 'data_corrupted';
    end if;
    o_epoch := c.epoch; o_seq := c.seq; o_tag := c.tag; o_closed := c.closed; o_dropped_time := c.dropped_time;
    -- What is too old for every node is not returned, whether or not it was deleted yet.
    young := coalesce(p_now, $S.now_ms()) - greatest(p_age, c.age);
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
            select greatest(c.dropped_time, max(least(e.time, e.appended))) into o_dropped_time from $S.entry e
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

-- The position after the newest event of a channel, as the text of a cursor. A state that is read in the same query, or
-- in the same `repeatable read` transaction, includes everything up to it; readers continue after it.
create or replace function $S.position(channel text) returns text language plpgsql stable
security definer set search_path = pg_catalog, pg_temp as $$
declare
    at text;
begin
    perform $S.check_channel(channel);
    select $S.cursor_text(x.epoch, x.seq, x.tag) into at from $S.head x where x.name = channel order by x.gen desc limit 1;
    if not found then
        select $S.cursor_text($S.epoch_of(p.epoch, channel), f.floor, 0) into at
        from $S.place p, $S.floor f where f.bucket = $S.bucket_of(channel);
    end if;
    return at;
end $$;
