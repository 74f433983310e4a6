-- Forgetting and tidying up. `$S` stands for the quoted schema.

-- Forgets the channel. Its entries are deleted at once if they are few, otherwise later. The floor rises by `p_step`
-- more than necessary. Returns the place's epoch and the floor, or nothing when there was no such channel.
create or replace function $S.drop_channel(
    p_channel text, p_lock_ms integer, p_sync text, p_bucket integer, p_step bigint, p_version integer,
    out o_place bigint, out o_floor bigint
) language plpgsql volatile as $$
declare
    c $S.head;
begin
    if p_lock_ms is not null then
        perform set_config('lock_timeout', p_lock_ms::text, true);
    end if;
    if p_sync is not null then
        perform set_config('synchronous_commit', p_sync, true);
    end if;
    perform $S.admit_writer(p_version);
    select * into c from $S.head x where x.name = p_channel order by x.gen desc limit 1 for update;
    if not found then
        -- Left behind by a damaged channel.
        delete from $S.name n where n.name = p_channel and not exists (select from $S.head x where x.name = n.name);
        return;
    end if;
    perform $S.end_channel(c, 1000);
    update $S.floor f set floor = greatest(f.floor, c.seq) + p_step where f.bucket = p_bucket returning f.floor into o_floor;
    if not found then
        raise exception 'the floor has no row for the channel %', p_channel using errcode = 'data_corrupted';
    end if;
    select epoch into o_place from $S.place;
end $$;

-- A piece of the janitor's work, which takes about `p_ms`: expired keys, unused logs, idle channels; some of each kind,
-- so that none waits for the others. Returns how much it did, or null when another node is working. A channel that
-- cannot be tidied is reported, postponed, and delays nothing else.
create or replace function $S.tidy(
    p_now bigint, p_keep bigint[], p_most bigint, p_ms integer, p_step bigint, p_version integer,
    out o_done bigint, out o_damaged text[], out o_why text[]
) language plpgsql volatile as $$
declare
    moment bigint := coalesce(p_now, $S.now_ms());
    until timestamptz := clock_timestamp() + make_interval(secs => p_ms / 1000.0);
    c $S.head;
    b integer;
    n bigint;
    dead bigint;
    floors jsonb := '{}';
    at text;
    names text[];
begin
    perform set_config('lock_timeout', '2000', true);
    perform $S.admit_writer(p_version);
    p_keep := $S.agree(moment, p_keep);
    if not pg_try_advisory_xact_lock(hashtextextended('tower-events janitor $S', 0)) then
        return;
    end if;
    delete from $S.key where ctid = any (array(
        select ctid from $S.key where came <= moment - p_keep[5] order by came limit p_most));
    get diagnostics o_done = row_count;
    select a.sweep into at from $S.asked a where a.sweep is not null for update;
    if at is not null then
        names := array(select x.name from $S.name x where x.name > at order by x.name limit p_most);
        -- A locked channel is skipped: it is being written to, and each append trims it by number and bytes. Entries that
        -- are too old are deleted when the channel is due anyway, and are visible to no reader until then.
        update $S.head set due = moment where ctid = any (array(
            select x.ctid from $S.head x where x.name = any (names) and x.due > moment for update skip locked));
        update $S.asked a set sweep = names[cardinality(names)];
        o_done := o_done + 1;
    end if;
    for dead in select log from $S.garbage order by log limit p_most for update skip locked loop
        o_done := o_done + 1 + $S.reap(dead, p_most);
        exit when clock_timestamp() > until;
    end loop;
    for c in select * from $S.head x where x.due <= moment order by x.due limit p_most loop
        begin
            select * into c from $S.head x where x.name = c.name and x.gen = c.gen and x.due <= moment for update skip locked;
            if found then
                o_done := o_done + 1;
                perform $S.check_head(c);
                n := c.earliest_seq;
                c := $S.trim(c, p_keep, moment, p_most);
                if c.earliest_seq - n >= p_most then
                    null; -- there may be more; the next piece continues
                elsif c.seq > c.earliest_seq then
                    update $S.head x set due = moment + $S.period(p_keep) where x.name = c.name and x.gen = c.gen;
                else
                    b := $S.bucket_of(c.name);
                    if moment < $S.turn(b, p_keep, c.emptied_at + p_keep[4] + 1) then
                        -- Nothing to look for before; the next append sets an earlier time.
                        n := $S.turn(b, p_keep, c.emptied_at + p_keep[4] + 1);
                    else
                        select $S.turn(b, p_keep, max(k.came) + p_keep[5] + 1) into n from $S.key k
                        where k.log = c.log and k.came > moment - p_keep[5];
                    end if;
                    if n is null then
                        perform $S.end_channel(c, p_most);
                        floors := jsonb_set(floors, array[b::text], to_jsonb(greatest((floors ->> b::text)::bigint, c.seq)));
                    else
                        update $S.head x set due = greatest(n, moment + 10) where x.name = c.name and x.gen = c.gen;
                    end if;
                end if;
            end if;
        exception when others then
            o_damaged := o_damaged || c.name;
            o_why := o_why || format('%s (%s)', sqlerrm, sqlstate);
            update $S.head x set due = moment + greatest($S.period(p_keep), 600000) where x.name = c.name and x.gen = c.gen;
        end;
        exit when clock_timestamp() > until;
    end loop;
    update $S.floor f set floor = greatest(f.floor, t.seq::bigint) + p_step from jsonb_each_text(floors) t(bucket, seq)
    where f.bucket = t.bucket::integer;
end $$;

-- Fails while the disk is full or the server is read-only. What it writes is rolled back, and is too much for the free
-- space in existing pages.
create or replace function $S.probe(p_version integer) returns void language plpgsql volatile as $$
begin
    perform $S.admit_writer(p_version);
    insert into $S.entry
    select 0, 0, 0, 0, 0, 0, 0, false, null, string_agg(uuid_send(gen_random_uuid()), '') from generate_series(1, 16384);
    delete from $S.entry where log = 0;
end $$;
