-- A run of the janitor: trims and forgets unused channels. ARGV[REST]: the floor's step; then the maximum number of
-- channels. Returns how many it looked at, whether all keys expire as late as these settings require, and which
-- channels are unreadable.

local most, bad, it = tonumber(ARGV[REST + 1]), {}, seldom()

local function look(name)
  local r = load(name, call('HGET', place, 'c:' .. name))
  if r and r.surplus then it.mend(r) end
  if not r then
    call('ZREM', turns, name)
    of_type(attempt('ZREM', names, name))
  elseif forgotten(r) then
    it.forget(name, r.seq)
  else
    fit(r, max(now, r.last))
    if r.cut then
      call('HSET', place, 'c:' .. name, text_of(r))
      trim(r)
    end
    it.turn(r)
  end
end

local due = of_type(attempt('ZRANGEBYSCORE', turns, '-inf', num(now), 'LIMIT', 0, most)) or {}
for _, name in ipairs(due) do
  local fine, problem = try(look, name)
  if not fine then
    -- A channel that fails does not hold up the others.
    bad[#bad + 1] = name .. ': ' .. reason(problem)
    it.set_turn(name, now + 600000)
  end
end
-- Lost schedule entries are restored, a few at a time; a lost list of channels is rebuilt by `renew`.
for _, field in ipairs(call('HRANDFIELD', place, 16)) do
  if string.sub(field, 1, 2) == 'c:' and not of_type(attempt('ZSCORE', turns, string.sub(field, 3))) then
    it.set_turn(string.sub(field, 3), now)
  end
end
local listed, turning = of_type(attempt('ZCARD', names)) or 0, of_type(attempt('ZCARD', turns)) or 0
if confirms then call('HSET', place, 'keep', it.keep()) end
return { 'ok', tostring(#due), listed < turning and '0' or ready, unpack(bad) }
