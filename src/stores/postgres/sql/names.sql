-- At most $4 channels with names from $1 to $3, after $2, with their heads, in the byte order of the names; no head
-- where the record is missing. `$S` stands for the quoted schema.
select n.name, h.epoch, h.seq, h.tag, h.closed
from $S.place p
cross join (
    select x.name from $S.name x where x.name >= $1 and x.name > $2 and x.name <= $3 order by x.name limit $4
) n
left join lateral (
    select x.epoch, x.seq, x.tag, x.closed from $S.head x where x.name = n.name order by x.gen desc limit 1
) h on true
where p.oldest_reader <= $V or $S.admit_reader(p.version, p.oldest_reader, $V)
order by n.name
