-- Replaces a channel's history. ARGV[3]: the floor's step; then channel, epoch when absent, new epoch, condition, how many
-- events; per event: tag, time or '', the event.

local now, step = clock(), tonumber(ARGV[3])
local name, absent, epoch, expect, count = ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
local r = load(name)
if r and forgotten(r, math.max(now, r.last)) then
  floor = forget(name, r, floor, step)
  r = nil
end
local head = head_of(r, absent, floor)
if not holds(expect, r, head) then return { 'ok', 'C' .. head } end
-- Goes on above the head that it replaces, so that the floor covers that log too when this one is forgotten.
local stamp = math.max(now, r and r.last or 0)
local new = fresh(name, epoch, r and r.seq or floor, stamp)
for i = 0, count - 1 do
  local tag, time, blob = ARGV[9 + i * 3], ARGV[10 + i * 3], ARGV[11 + i * 3]
  push(name, log_of(name), new, tonumber(tag), time == '' and stamp or tonumber(time), blob, stamp)
end
fit(new, log_of(name), stamp)
save(name, new)
turn(name, new, now)
call('PUBLISH', PREFIX .. ':bell', bell('H', head_of(new), name, 0))
return { 'ok', 'D' .. head_of(new) }
