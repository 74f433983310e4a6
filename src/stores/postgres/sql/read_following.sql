-- The entries after the position (epoch $2, seq $3), as rows; the common case, in one statement: half the work for the
-- server of the function, which decides more. The first row shows whether this applies: it comes right after that
-- position. `$S` stands for the quoted schema.
select c.seq, c.tag, c.closed, e.seq, e.tag, e.prev_tag, e.appended, e.time, e.is_text, e.name, e.data,
    e.appended >= coalesce($6, $S.now_ms()) - $7 as is_young
from (select * from $S.head where name = $1 order by gen desc limit 1) c, lateral (
    select x.*, sum(x.size) over (order by x.seq) as total from $S.entry x
    where x.log = c.log and x.seq > $3 and x.seq <= c.seq order by x.seq limit $4
) e
where c.epoch = $2 and (select p.oldest_reader from $S.place p) <= $V and (e.total <= $5 or e.seq - 1 = $3)
order by e.seq
