-- The janitor's round: trims and forgets channels that nobody uses. ARGV[REST]: the floor's step; then most channels.

local now, step = clock(), tonumber(ARGV[REST])
local names = call('ZRANGEBYSCORE', turns, '-inf', num(now), 'LIMIT', 0, ARGV[REST + 1])
for _, name in ipairs(names) do
  local r = load(name, call('HGET', place, 'c:' .. name))
  if not r then
    call('ZREM', turns, name)
  elseif forgotten(r, max(now, r.last)) then
    floor = forget(name, r, floor, step)
  else
    fit(r, max(now, r.last))
    if r.cut then call('HSET', place, 'c:' .. name, settle(r)) end
    turn(r, now)
  end
end
-- Turns that were evicted are found again, a few at a time.
if call('ZCARD', turns) + 2 < call('HLEN', place) then
  for _, field in ipairs(call('HRANDFIELD', place, 16)) do
    if string.sub(field, 1, 2) == 'c:' then call('ZADD', turns, 'NX', num(now), string.sub(field, 3)) end
  end
end
return { 'ok', tostring(#names) }
