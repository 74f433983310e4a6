-- Appends several batches, each to one channel, each whole or not at all. ARGV[3]: the floor's step. ARGV[4]: how many;
-- then per batch: channel, epoch when absent, condition, whether it closes, how many events; per event: tag, time or '',
-- key or '', the event.

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
  if #new == 0 then return end
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

-- Appends what is new, and returns the known ones as receipts.
local function apply(name, r, stamp, count, known)
  local receipts, new, parts, size, before = {}, {}, {}, 0, num(r.seq) .. ' ' .. r.tag
  local stamp_text = num(stamp)
  for i = 0, count - 1 do
    local tag, time, key, blob = ARGV[at + i * 4], ARGV[at + i * 4 + 1], ARGV[at + i * 4 + 2], ARGV[at + i * 4 + 3]
    if time == '' then time = stamp_text end
    if key ~= '' and known[key] then
      receipts[#receipts + 1] = i .. ' ' .. known[key]
    else
      local head = push(name, r, tag, time, blob, stamp)
      if key ~= '' then
        known[key] = num(r.seq) .. ' ' .. tag .. ' ' .. time
        new[#new + 1], new[#new + 2] = key, known[key]
      end
      size = size + #blob
      if size <= INLINE then parts[#parts + 1] = head .. ' ' .. #blob .. '\n' .. blob end
    end
  end
  remember(name, r, stamp, new)
  if #parts > 0 and size <= INLINE then
    bells[#bells + 1] = 'E ' .. r.epoch .. ' ' .. before .. ' 0 ' .. #parts .. ' ' .. name .. '\n' .. table.concat(parts)
  elseif size > 0 then
    bells[#bells + 1] = bell_of_head(name, head_of(r), '0')
  end
  return receipts
end

local function append(name, absent, expect, close, count)
  local r = record(name)
  local head, closed = head_of(r, absent, floor), r and r.closed or '0'
  local stamp = math.max(now, r and r.last or 0)
  local known, brings = known_keys(name, r, stamp, count), false
  for i = 0, count - 1 do
    local key = ARGV[at + i * 4 + 2]
    brings = brings or key == '' or not known[key]
  end
  local acts = brings or (close == '1' and closed == '0')
  if acts and not holds(expect, r, head) then return 'conflict ' .. head .. ' ' .. closed end
  if brings and closed == '1' then return 'closed ' .. head .. ' ' .. closed end
  if not r then
    if not acts then return 'done ' .. head .. ' 0 ' .. num(floor) .. ' 0 ' .. num(stamp) end
    r = fresh(name, absent, floor, stamp)
    records[name], created[name] = r, true
  end
  local before = num(r.seq) .. ' ' .. r.tag
  local receipts = apply(name, r, stamp, count, known)
  if close == '1' and closed == '0' then
    r.closed = '1'
    bells[#bells + 1] = bell_of_head(name, head_of(r), '1')
  end
  if acts then changed[name] = r end
  local done = 'done ' .. head_of(r) .. ' ' .. r.closed .. ' ' .. before .. ' ' .. num(stamp)
  if #receipts > 0 then done = done .. ' ' .. table.concat(receipts, ' ') end
  return done
end

for nth = 1, tonumber(ARGV[4]) do
  local name, absent, expect, close, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  at = at + 5
  replies[nth] = append(name, absent, expect, close, count)
  at = at + count * 4
end
for name, r in pairs(changed) do
  fit(r, log_of(name), math.max(now, r.last))
  save(name, r)
  if created[name] then turn(name, r, now) end
end
if #bells > 0 then call('PUBLISH', PREFIX .. ':bell', table.concat(bells)) end
return { 'ok', unpack(replies) }
