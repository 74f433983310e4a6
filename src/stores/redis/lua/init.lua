-- Replaces a channel's history. ARGV[REST]: the floor's step; then the epoch when absent, the new epoch, the condition, and
-- the events. The new log begins as a surplus of the old one, and the old one is what the new one has too much: so whatever
-- comes in between, one of them is whole.

local name = name_of(ARGV[4])
local absent, epoch, expect = ARGV[REST + 1], ARGV[REST + 2], ARGV[REST + 3]
local r = open(name, stored(1))
if r and forgotten(r) then
  seldom().forget(name, r.seq)
  r = nil
end
local head = head_of(r, name, absent)
if not holds(expect, r, head) then return { 'ok', 'C' .. head } end
-- Goes on above the head that it replaces, so that the floor covers that log too when this one is forgotten.
local stamp = max(now, r and r.last or 0)
local new = seldom().fresh(name, epoch, r and r.seq or floor_of(name), stamp)
new.gone, new.cut = not r or r.gone, true
for nth = REST + 4, #ARGV do push(new, ARGV[nth], stamp) end
fit(new, stamp)
local fine, problem = try(add, new)
if fine then fine, problem = try(call, 'HSET', place, ARGV[4], text_of(new), 'keep', confirms and seldom().keep() or known[4]) end
if not fine then
  seldom().undo(new)
  return { 'ok', 'U' .. reason(problem) }
end
try(trim, new)
try(call, 'UNLINK', keys_of(name, 0), keys_of(name, 1))
try(seldom().turn, new)
try(seldom().list, name)
ring({ hint_of(new), name })
return { 'ok', 'D' .. head_of(new, name, absent) }
