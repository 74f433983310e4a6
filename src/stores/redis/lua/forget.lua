-- Forgets a channel: at once, or only when its time has come. ARGV[REST]: the floor's step; then the epoch when absent, and
-- 'now' or 'due'.

local name, absent, how, text = name_of(ARGV[4]), ARGV[REST + 1], ARGV[REST + 2], known[5]
if not text then return { 'ok' } end
local r = parse(name, log_of(name), text)
if r and (how == 'now' or forgotten(r)) then
  local floor = seldom().forget(name, r.seq)
  ring({ hint('H', name, 0, absent, floor, NO_TAG, 0), name })
elseif not r and how == 'now' then
  -- A record that cannot be read can still be deleted. Nobody knows where it was, so the floor goes far above.
  local floor = floor_of(name)
  seldom().forget(name, floor + 2 ^ 40)
end
return { 'ok' }
