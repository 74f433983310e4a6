-- Replaces a channel's history. ARGV[REST]: the floor's step; then the epoch while absent, the new epoch, the
-- expectation, and the events. Until the record is written, the new log is a surplus of the old one; afterwards the old
-- one is a surplus of the new one. So one of them is intact at every point.

local name = name_of(ARGV[4])
local r = open(name, known[5], ARGV[REST + 1])
if not holds(ARGV[REST + 3], r) then return { 'ok', 'C' .. head_of(r) } end
-- Starts above the head that it replaces, so that the floor covers that log too once this one is forgotten.
local stamp, gone = max(now, r.last), r.gone
r = seldom().fresh(name, ARGV[REST + 2], r.seq, stamp)
r.gone, r.cut = gone, true
if #ARGV >= REST + 4 then push(r, stamp, REST + 4, #ARGV) end
fit(r, stamp)
local fine, problem = try(add, r, 0)
if fine then
  fine, problem = try(call, 'HSET', place, ARGV[4], text_of(r), 'keep', confirms and seldom().keep() or known[4])
end
if not fine then
  seldom().undo(r)
  return { 'ok', 'U' .. reason(problem) }
end
try(trim, r)
try(call, 'UNLINK', keys_of(name, 0), keys_of(name, 1))
try(seldom().turn, r)
try(seldom().list, name)
ring({ hint_of(r), name })
return { 'ok', 'D' .. head_of(r) }
