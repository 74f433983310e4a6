-- The heads of those of the channels $1 that exist, by name; the common case, without what only absent ones need.
-- Returns no row either when this version may not read. Looked up one by one: the newest version of a row comes first,
-- however many older ones an old snapshot retains. `$S` stands for the quoted schema.
select n.name, h.epoch, h.seq, h.tag, h.closed
from (select unnest($1) as name from $S.place p where p.oldest_reader <= $V) n
cross join lateral (
    select x.epoch, x.seq, x.tag, x.closed from $S.head x where x.name = n.name order by x.gen desc limit 1
) h
