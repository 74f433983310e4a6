-- Some channels in the order of their names; writes nothing. ARGV[REST]: the lowest and the highest name, as ZRANGE takes
-- them; then how many. Answers their names and records, and where to go on when none of those that it looked at has one.

local from, to, most = ARGV[REST], ARGV[REST + 1], ARGV[REST + 2]
local some = of_type(attempt('ZRANGE', names, from, to, 'BYLEX', 'LIMIT', 0, most)) or {}
if #some == 0 then return { 'ok', '' } end
local fields, reply = {}, { 'ok', some[#some] }
for nth, name in ipairs(some) do fields[nth] = 'c:' .. name end
for nth, text in ipairs(call('HMGET', place, unpack(fields))) do
  local fine, r = try(parse, some[nth], text)
  if text and not (fine and forgotten(r)) then
    reply[#reply + 1], reply[#reply + 2] = some[nth], text
  end
end
return reply
