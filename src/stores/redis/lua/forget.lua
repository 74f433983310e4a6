-- Forgets a channel: at once, or only if it is due. ARGV[REST]: the floor's step; then the epoch while absent, and
-- 'now' or 'due'.

local name, absent, how, text = name_of(ARGV[4]), ARGV[REST + 1], ARGV[REST + 2], known[5]
if not text then return { 'ok' } end
local r = parse(name, log_of(name), text)
if r and (how == 'now' or forgotten(r)) then
  local floor = seldom().forget(name, r.seq)
  ring({ hint('H', name, 0, absent, floor, NO_TAG, 0), name })
elseif not r and how == 'now' then
  -- An unreadable record can still be deleted. The channel's position is unknown, so the floor rises by a large amount.
  local floor = floor_of(name)
  seldom().forget(name, floor + 2 ^ 40)
end
return { 'ok' }
