-- The janitor's round: trims and forgets channels that nobody uses. ARGV[3]: the floor's step; ARGV[4]: most channels.

local now, step = clock(), tonumber(ARGV[3])
local names = call('ZRANGEBYSCORE', turns, '-inf', num(now), 'LIMIT', 0, ARGV[4])
for _, name in ipairs(names) do
  local r = load(name)
  if not r then
    call('ZREM', turns, name)
  elseif forgotten(r, math.max(now, r.last)) then
    floor = forget(name, r, floor, step)
  else
    fit(r, log_of(name), math.max(now, r.last))
    if r.cut then save(name, r) end
    turn(name, r, now)
  end
end
-- Turns that were evicted are found again, a few at a time.
if call('ZCARD', turns) + 2 < call('HLEN', place) then
  for _, field in ipairs(call('HRANDFIELD', place, 16)) do
    if string.sub(field, 1, 2) == 'c:' then call('ZADD', turns, 'NX', num(now), string.sub(field, 3)) end
  end
end
return { 'ok', tostring(#names) }
