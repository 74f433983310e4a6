-- One event without a key or an expectation, in one statement: about a third less work for the server than the
-- function, which decides more. Returns no row, and does nothing, when the channel is absent, closed or empty, or when
-- its generation is below $9, one that it has reached, so that older versions of the row are skipped. Every expression
-- is set up anew each time, so the caller computes what it can. `$S` stands for the quoted schema, `$T` for a
-- notification of the other nodes.
with c as (
    update $S.head ch set
        seq = ch.seq + 1, tag = $2, before_tag = ch.tag, bytes = ch.bytes + $3,
        stamp = greatest(ch.stamp, coalesce($8, $S.now_ms()))
    where ch.name = $1 and ch.gen >= $9
        and not ch.closed and ch.seq > ch.earliest_seq and (select p.oldest_writer from $S.place p) <= $V
    returning ch.log, ch.epoch, ch.seq, ch.before_tag, ch.stamp, ch.earliest_seq, ch.bytes, ch.trim_at
), entry as (
    insert into $S.entry
    select c.log, c.seq, $2, c.before_tag, $3, c.stamp, coalesce($4, c.stamp), $5, $6, $7 from c
)
select c.epoch, c.seq, c.before_tag, c.stamp, c.earliest_seq, c.bytes, c.trim_at$T from c
