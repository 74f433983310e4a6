-- Forgets a channel: at once, or only when its time has come. ARGV[REST]: the floor's step; then the epoch when absent, and
-- 'now' or 'due'.

local now, step, name, absent, how = clock(), tonumber(ARGV[REST]), name_of(ARGV[4]), ARGV[REST + 1], ARGV[REST + 2]
local text = known[3]
-- A record that cannot be read can still be deleted. Nobody knows where it was, so the floor goes far above.
local good = text and #text == 97
local r = good and parse(name, text)
if text and not good and how == 'now' then
  forget(name, { seq = floor + 2 ^ 40 }, floor, step)
elseif good and (how == 'now' or forgotten(r, max(now, r.last))) then
  floor = forget(name, r, floor, step)
  call('PUBLISH', PREFIX .. ':bell', hint('H', name, 0, absent, floor, NO_TAG, 0) .. name)
end
return { 'ok' }
