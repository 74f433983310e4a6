-- Replaces a channel's history. ARGV[REST]: the floor's step; then the epoch when absent, the new epoch, the condition, and
-- the events.

local now, step, name = clock(), tonumber(ARGV[REST]), name_of(ARGV[4])
local absent, epoch, expect = ARGV[REST + 1], ARGV[REST + 2], ARGV[REST + 3]
local r = load(name, known[3])
if r and forgotten(r, max(now, r.last)) then
  floor = forget(name, r, floor, step)
  r = nil
end
local head = head_of(r, absent, floor)
if not holds(expect, r, head) then return { 'ok', 'C' .. head } end
-- Goes on above the head that it replaces, so that the floor covers that log too when this one is forgotten.
local stamp = max(now, r and r.last or 0)
local new = fresh(name, epoch, r and r.seq or floor, stamp)
for nth = REST + 4, #ARGV do push(new, ARGV[nth], stamp) end
fit(new, stamp)
call('HSET', place, ARGV[4], settle(new))
turn(new, now)
call('PUBLISH', PREFIX .. ':bell', hint_of(new) .. name)
return { 'ok', 'D' .. head_of(new) }
