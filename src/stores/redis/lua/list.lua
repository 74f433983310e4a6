-- Some channels in the order of their names; writes nothing. ARGV[REST]: the lowest and the highest name in the syntax
-- of ZRANGE BYLEX, and the maximum count. Returns whether all channels are listed, where to continue when none of the
-- names seen has a record, and names and records. The list is incomplete when it has fewer names than the janitor's
-- schedule: it was lost, or an older version did not create it.

local from, to, most, turns, names = ARGV[REST], ARGV[REST + 1], ARGV[REST + 2], KEYS[2], PREFIX .. ':names'
local some = of_type(attempt('ZRANGE', names, from, to, 'BYLEX', 'LIMIT', 0, most)) or {}
local listed, turning = of_type(attempt('ZCARD', names)) or 0, of_type(attempt('ZCARD', turns)) or 0
local fields, reply = {}, { 'ok', listed < turning and '0' or '1', some[#some] or '' }
if #some == 0 then return reply end
for nth, name in ipairs(some) do fields[nth] = 'c:' .. name end
for nth, text in ipairs(call('HMGET', place, unpack(fields))) do
  local r = text and parse(some[nth], log_of(some[nth]), text)
  if text and not (r and forgotten(r)) then
    reply[#reply + 1], reply[#reply + 2] = some[nth], text
  end
end
return reply
