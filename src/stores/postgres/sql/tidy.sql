-- Forgetting and tidying up. `$S` stands for the quoted schema.

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
