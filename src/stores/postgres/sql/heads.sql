-- The heads of the channels $1, in the buckets $2; for absent ones, the floor. Looked up one by one: the newest
-- version of a row comes first, however many older ones an old snapshot retains. `$S` stands for the quoted schema.
select n.place, n.nth, h.epoch,
    coalesce(h.seq, (select f.floor from $S.floor f where f.bucket = n.bucket)), h.tag, h.closed
from (
    select p.epoch as place, unnest($1) as name, unnest($2) as bucket, generate_subscripts($1, 1) as nth
    from $S.place p where p.oldest_reader <= $V or $S.admit_reader(p.version, p.oldest_reader, $V)
) n
left join lateral (
    select x.epoch, x.seq, x.tag, x.closed from $S.head x where x.name = n.name order by x.gen desc limit 1
) h on true
