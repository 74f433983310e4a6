-- The time, and the fields of the place that the call needs.

local now = tonumber(ARGV[2])
if not now then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

local known = call('HMGET', place, 'epoch', 'format', 'floor', 'keep', unpack(ARGV, 4, REST - 1))
if known[1] ~= ARGV[1] then return { 'moved' } end

-- The format is three numbers: its version, and the oldest versions that may read and write it.
if known[2] ~= OWN_FORMAT then
  local newest, reader, writer = string.match(known[2] or '', '^(%d+) (%d+) (%d+)$')
  if not newest or FORMAT < tonumber(WRITES and writer or reader) then return { 'format', known[2] or '' } end
end
