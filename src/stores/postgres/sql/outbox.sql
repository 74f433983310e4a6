-- Functions that an application calls in its own transaction: a message and its event are committed together, or
-- neither is. `$S` stands for the quoted schema.
--
-- The channel's row stays locked until the caller commits, and other appends to the channel wait: append last. With
-- `notify`, the hint is sent with the commit, and all notifying transactions of a database commit one after the other;
-- without it, the nodes find the event when they compare heads, every few seconds.
--
-- `append` and `append_text` run with the privileges of the schema's owner, so that a role needs only `execute` on them
-- and `usage` on the schema. Hence the caller's `search_path` must not affect any name in them, or in what they call.

-- The common part of both. It does not validate the data, so it must not run with more privileges than its caller has:
-- data that is no text or no JSON would lock all readers out of the channel.

create or replace function $S.append_data(
    p_channel text, p_data bytea, p_is_text boolean, p_name text, p_time bigint, p_key text, p_notify boolean
) returns text language plpgsql volatile as $$
declare
    a record;
    size integer := octet_length(p_data) + octet_length(p_channel) + coalesce(octet_length(p_name), 0) + 64;
    moment bigint := $S.now_ms();
    mark integer := 0;
    cursor text;
begin
    if p_data is null then
        raise exception 'an event has data' using errcode = '22004';
    elsif octet_length(p_name) not between 1 and 255
        or p_name ~ '[\u0001-\u001f\u007f-\u009f]' or starts_with(p_name, 'stream-') then
        raise exception 'not an event name: 1 to 255 bytes without control characters, not beginning with stream-'
            using errcode = '22023';
    elsif p_name in ('error', 'open') then
        raise exception 'browsers raise % themselves; call the event something else', p_name using errcode = '22023';
    elsif octet_length(p_key) not between 1 and 255 or p_key ~ '[\u0001-\u001f\u007f-\u009f]' then
        raise exception 'not a key: 1 to 255 bytes without control characters' using errcode = '22023';
    elsif p_time not between 0 and 8640000000000000 then
        raise exception 'not a time in Unix milliseconds' using errcode = '22003';
    end if;
    while mark = 0 loop
        mark := (floor(random() * 4294967296) - 2147483648)::integer;
    end loop;
    if p_key is null then
        -- The common case, as in `write_one.sql`. The name of an existing channel was checked before.
        with c as (
            update $S.head ch set
                seq = ch.seq + 1, tag = mark, before_tag = ch.tag, bytes = ch.bytes + size, stamp = greatest(ch.stamp, moment)
            where ch.name = p_channel
                and ch.gen = (select x.gen from $S.head x where x.name = p_channel order by x.gen desc limit 1)
                and not ch.closed and ch.seq > ch.earliest_seq and (select p.oldest_writer from $S.place p) <= $V
            returning ch.log, ch.epoch, ch.seq, ch.before_tag, ch.stamp, ch.earliest_seq, ch.bytes, ch.trim_at,
                (select k.keep from $S.kept k) as keep
        ), entry as (
            insert into $S.entry select c.log, c.seq, mark, c.before_tag, size, c.stamp, coalesce(p_time, c.stamp),
                p_is_text, p_name, p_data from c
        )
        select * into a from c;
    end if;
    if not found then
        return $S.append_event(p_channel, p_data, p_is_text, p_name, p_time, p_key, mark, size, p_notify);
    elsif (size > a.keep[2] / 2) is not false then
        perform $S.refuse_size(size, a.keep);
    elsif a.seq - a.earliest_seq > a.keep[1] + a.keep[1] / 4
        or (a.bytes > a.keep[2] + a.keep[2] / 4 and a.seq - a.earliest_seq > 1) or moment > a.trim_at then
        begin
            perform $S.trim_channel(p_channel, moment, a.keep, $V);
        exception when data_corrupted then
            null; -- the janitor reports it; the append does not fail for it
        end;
    end if;
    cursor := $S.cursor_text(a.epoch, a.seq, mark);
    if p_notify then
        perform pg_notify('$N', 'outbox' || E'\n' || cursor || '.' || p_channel);
    end if;
    return cursor;
end $$;

-- The same for the cases that need more decisions.
create or replace function $S.append_event(
    p_channel text, p_data bytea, p_is_text boolean, p_name text, p_time bigint, p_key text, p_mark integer, p_size integer,
    p_notify boolean
) returns text language plpgsql volatile as $$
declare
    a record;
    keep bigint[] := (select k.keep from $S.kept k);
    prints bigint[] := case when p_key is not null then array[$S.fingerprint(p_data, p_is_text, p_name, p_time)] end;
    cursor text;
begin
    perform $S.check_channel(p_channel);
    if (p_size > keep[2] / 2) is not false then
        perform $S.refuse_size(p_size, keep);
    end if;
    select w.* into a from $S.write_batch(
        p_channel, null, keep, null, null, null, 0, 0, 0, 0, false,
        array[p_data], array[p_is_text], array[p_name], array[p_time], case when p_key is not null then array[p_key] end,
        array[p_mark], array[null::integer], array[p_size], p_size, prints, $V) w;
    if a.o_status = 3 then
        raise exception 'the key % was used for another event of the channel %', p_key, p_channel using errcode = '23505';
    elsif a.o_status <> 0 then
        raise exception 'the channel % is closed', p_channel using errcode = '55000';
    end if;
    if a.o_seqs[1] is not null then
        a.o_seq := a.o_seqs[1];
        a.o_tag := a.o_tags[1];
        p_notify := false;
    end if;
    cursor := $S.cursor_text(a.o_epoch, a.o_seq, a.o_tag);
    if p_notify then
        perform pg_notify('$N', 'outbox' || E'\n' || cursor || '.' || p_channel);
    end if;
    return cursor;
end $$;

-- Reports why an event does not fit into what is kept, or why that is unknown.
create or replace function $S.refuse_size(size integer, keep bigint[]) returns void language plpgsql immutable as $$
begin
    if keep[2] is null then
        raise exception 'it is not known what is kept' using errcode = 'data_corrupted';
    end if;
    raise exception 'the event has % bytes; at most half of what is kept is taken at once', size using errcode = '54000';
end $$;

-- The text of a document without the spaces that `jsonb` adds after `:` and `,`; those in strings stay.
create or replace function $S.compact(data jsonb) returns text language sql immutable strict as
$$ select regexp_replace(data::text, '("(?:[^"\\]|\\.)*")|([:,]) ', '\1\2', 'g') $$;

create or replace function $S.append(
    channel text, data jsonb, name text default null, time_ms bigint default null, key text default null,
    notify boolean default true
) returns text language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    return $S.append_data(channel,
        convert_to(case jsonb_typeof(data) when 'string' then data #>> '{}' else $S.compact(data) end, 'UTF8'),
        jsonb_typeof(data) = 'string', name, time_ms, key, notify);
end $$;

create or replace function $S.append_text(
    channel text, data text, name text default null, time_ms bigint default null, key text default null,
    notify boolean default true
) returns text language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    return $S.append_data(channel, convert_to(data, 'UTF8'), true, name, time_ms, key, notify);
end $$;
