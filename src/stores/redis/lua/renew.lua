-- Extends the expiry of the keys of some channels to what the retention needs, and lists the channels. ARGV[REST]: the
-- floor's step; then where to continue. Returns where to continue next.

local page = call('HSCAN', place, ARGV[REST + 1], 'COUNT', 128)
for nth = 1, #page[2], 2 do
  local field = page[2][nth]
  if string.sub(field, 1, 2) == 'c:' then
    local name = name_of(field)
    seldom().list(name)
    call('PEXPIRE', log_of(name), num(4 * AGE + 60000), 'GT')
    for hash = 0, 1 do call('PEXPIRE', keys_of(name, hash), num(2 * WINDOW + 1000), 'GT') end
  end
end
if page[1] == '0' then
  ready, said = '1', now - LEASE / 2
  call('HSET', place, 'keep', seldom().keep())
end
return { 'ok', page[1] }
