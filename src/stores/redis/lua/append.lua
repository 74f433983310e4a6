-- Appends several batches, each to one channel, each whole or not at all. ARGV[3]: the floor's step. ARGV[4]: how many;
-- then per batch: channel, epoch when absent, condition, whether it closes, whether any event has a key, how many events;
-- per event: tag, time or '', key or '', the event.

local now, step = clock(), tonumber(ARGV[3])
local records, changed, created, replies, bells, at = {}, {}, {}, {}, {}, 5

-- The receipts of the batch's keys that are remembered. Two hashes per channel take turns, one window each.
local function known_keys(name, r, stamp, count)
  local asked, found = {}, {}
  for i = 0, count - 1 do
    local key = ARGV[at + i * 4 + 2]
    if key ~= '' then asked[#asked + 1] = key end
  end
  if not r or #asked == 0 then return found end
  for back = 0, 1 do
    local window = math.floor(stamp / WINDOW) - back
    local hash, mark = keys_of(name, window % 2), r.epoch .. ' ' .. num(window) .. ' ' .. num(WINDOW)
    for from = 1, #asked, 100 do
      local to = math.min(from + 99, #asked)
      local got = call('HMGET', hash, '\0', unpack(asked, from, to))
      if got[1] ~= mark then break end
      for i = from, to do found[asked[i]] = found[asked[i]] or got[i - from + 2] or nil end
    end
  end
  return found
end

local function remember(name, r, stamp, new)
  local window = math.floor(stamp / WINDOW)
  local hash, mark = keys_of(name, window % 2), r.epoch .. ' ' .. num(window) .. ' ' .. num(WINDOW)
  if call('HGET', hash, '\0') ~= mark then
    call('UNLINK', hash)
    call('HSET', hash, '\0', mark)
  end
  for from = 1, #new, 200 do call('HSET', hash, unpack(new, from, math.min(from + 199, #new))) end
  call('PEXPIRE', hash, num(2 * WINDOW + 1000))
end

local function record(name)
  local r = records[name]
  if r == nil then
    r = load(name)
    if r and forgotten(r, math.max(now, r.last)) then
      floor = forget(name, r, floor, step)
      r = nil
    end
    records[name] = r or false
  end
  return r or nil
end

-- Appends what is new, and returns the known ones as receipts: which event, seq, tag and time. The hint's parts are joined
-- once for all.
local function apply(name, r, stamp, keyed, count, known)
  local ARGV, receipts, new, size, added, before = ARGV, '', nil, 0, 0, head_of(r)
  local log, hint = log_of(name), #bells + 1
  local part = hint
  bells[hint] = ''
  for from = at, at + count * 4 - 4, 4 do
    local time, key, blob = ARGV[from + 1], ARGV[from + 2], ARGV[from + 3]
    if keyed and key ~= '' and known[key] then
      receipts = receipts .. pack('>I4', (from - at) / 4) .. known[key]
    else
      local tag = tonumber(ARGV[from])
      time = time == '' and stamp or tonumber(time)
      local head = push(name, log, r, tag, time, blob, stamp)
      if keyed and key ~= '' then
        known[key], new = pack('>dI4d', r.seq, tag, time), new or {}
        new[#new + 1], new[#new + 2] = key, known[key]
      end
      size, added = size + #blob, added + 1
      if size <= INLINE then
        bells[part + 1], bells[part + 2], bells[part + 3] = head, pack('>I4', #blob), blob
        part = part + 3
      end
    end
  end
  if new then remember(name, r, stamp, new) end
  if size > INLINE then
    for nth = part, hint + 1, -1 do bells[nth] = nil end
    bells[hint] = bell('H', head_of(r), name, 0)
  else
    bells[hint] = added > 0 and bell('E', before, name, added) or nil
  end
  return receipts
end

local function append(name, absent, expect, close, keyed, count)
  local r = record(name)
  local head, closed = head_of(r, absent, floor), r ~= nil and r.closed == 1
  local stamp = r and r.last > now and r.last or now
  local known, brings = nil, count > 0
  if keyed then
    known, brings = known_keys(name, r, stamp, count), false
    for i = 0, count - 1 do
      local key = ARGV[at + i * 4 + 2]
      brings = brings or key == '' or not known[key]
    end
  end
  local acts = brings or (close and not closed)
  if acts and not holds(expect, r, head) then return 'C' .. head end
  if brings and closed then return 'L' .. head end
  if not r then
    if not acts then return 'D' .. head .. pack('>dI4d', floor, 0, stamp) end
    r = fresh(name, absent, floor, stamp)
    records[name], created[name] = r, true
  end
  local before = pack('>dI4d', r.seq, r.tag, stamp)
  local receipts = apply(name, r, stamp, keyed, count, known)
  if close and not closed then
    r.closed = 1
    bells[#bells + 1] = bell('H', head_of(r), name, 0)
  end
  if acts then changed[name] = r end
  return 'D' .. head_of(r) .. before .. receipts
end

for nth = 1, tonumber(ARGV[4]) do
  local name, absent, expect, close, keyed = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3] == '1', ARGV[at + 4] == '1'
  local count = tonumber(ARGV[at + 5])
  at = at + 6
  replies[nth] = append(name, absent, expect, close, keyed, count)
  at = at + count * 4
end
for name, r in pairs(changed) do
  fit(r, log_of(name), math.max(now, r.last))
  save(name, r)
  if created[name] then turn(name, r, now) end
end
if #bells > 0 then call('PUBLISH', PREFIX .. ':bell', table.concat(bells)) end
return { 'ok', unpack(replies) }
