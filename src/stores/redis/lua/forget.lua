-- Forgets a channel: at once, or only when its time has come. ARGV[3]: the floor's step; then channel, epoch when absent,
-- 'now' or 'due'.

local now, step, name, absent = clock(), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local text = call('HGET', place, 'c:' .. name)
-- A record that cannot be read can still be deleted. Nobody knows where it was, so the floor goes far above.
local good = text and #text == 97
local r = good and parse(text)
if text and not good and ARGV[6] == 'now' then
  forget(name, { seq = floor + 2 ^ 40 }, floor, step)
elseif good and (ARGV[6] == 'now' or forgotten(r, math.max(now, r.last))) then
  floor = forget(name, r, floor, step)
  call('PUBLISH', PREFIX .. ':bell', bell('H', head_of(nil, absent, floor), name, 0))
end
return { 'ok' }
