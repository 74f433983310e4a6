-- Appends several batches, each to one channel, each whole or not at all. ARGV[REST]: the floor's step. Then the batches,
-- each of them packed: which of the channels, how many events, what it is (1 for one that closes, 2 when any event has a key,
-- 4 when there is a condition), the epoch when absent; then its condition if it has one; its events; and if any has a key
-- all their keys, '' for none, and the fingerprints of all, 8 bytes each, as one text.
--
-- A remembered key is a receipt (seq, tag and time, packed) and the fingerprint of its event; older versions stored the
-- receipt alone.

local now, step, at = clock(), tonumber(ARGV[REST]), REST + 1
local records, changed, created, replies, bells = {}, {}, {}, {}, {}
local ANSWER, BATCH = '>c1c16dc4Bdc4d', '>HI4Bc16'

-- The receipts of the batch's keys that are remembered. Two hashes per channel take turns, one window each.
local function known_keys(name, r, stamp, keys, count)
  local asked, found = {}, {}
  for i = keys, keys + count - 1 do
    if ARGV[i] ~= '' then asked[#asked + 1] = ARGV[i] end
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

local function record(nth, name)
  local r = records[nth]
  if r == nil then
    r = load(name, known[2 + nth])
    if r and forgotten(r, max(now, r.last)) then
      floor = forget(name, r, floor, step)
      r = nil
    end
    records[nth] = r or false
  end
  return r or nil
end

local RECEIPT = 20

local function print_of(prints, nth) return string.sub(prints, nth * 8 + 1, nth * 8 + 8) end

-- The first event that is not what its key stands for: stored, or earlier in the batch.
local function reused(keys, count, prints, receipts_of)
  local first = {}
  for nth = 0, count - 1 do
    local key = ARGV[keys + nth]
    if key ~= '' then
      local print, stored = print_of(prints, nth), receipts_of[key]
      if stored then
        if #stored > RECEIPT and string.sub(stored, RECEIPT + 1) ~= print then return nth end
      elseif (first[key] or print) ~= print then
        return nth
      end
      first[key] = print
    end
  end
end

-- Appends what is new, and returns the known ones as receipts: which event, seq, tag and time. The hint's parts are joined
-- once for all.
local function apply(r, stamp, events, count, keys, prints, receipts_of)
  local ARGV, receipts, new, size, added, first = ARGV, '', nil, 0, 0, #bells + 1
  local seq, tag_before, part = r.seq, r.tag, first + 1
  bells[first], bells[part] = '', r.name
  for nth = 0, count - 1 do
    local event, key = ARGV[events + nth], keys and ARGV[keys + nth] or ''
    if key ~= '' and receipts_of[key] then
      receipts = receipts .. pack('>I4', nth) .. string.sub(receipts_of[key], 1, RECEIPT)
    else
      local head, tag, time = push(r, event, stamp)
      if key ~= '' then
        receipts_of[key], new = pack('>dc4d', r.seq, tag, time) .. print_of(prints, nth), new or {}
        new[#new + 1], new[#new + 2] = key, receipts_of[key]
      end
      size, added = size + #event, added + 1
      if size <= INLINE then
        bells[part + 1], bells[part + 2] = head, event
        part = part + 2
      end
    end
  end
  if new then remember(r.name, r, stamp, new) end
  if added > 0 and size <= INLINE then
    bells[first] = hint('E', r.name, added, r.epoch, seq, tag_before, 0)
  else
    for nth = part, first + (added > 0 and 2 or 0), -1 do bells[nth] = nil end
    if added > 0 then bells[first] = hint_of(r) end
  end
  return receipts
end

-- `events` is where the batch's events begin, `keys` where their keys do, if any has one; then `prints` are there too.
local function append(nth, name, absent, expect, close, events, count, keys, prints)
  local r = record(nth, name)
  local closed, stamp = r ~= nil and r.closed == 1, r and r.last > now and r.last or now
  local receipts_of, brings = nil, count > 0
  if keys then
    receipts_of, brings = known_keys(name, r, stamp, keys, count), false
    local other = reused(keys, count, prints, receipts_of)
    if other then return 'R' .. head_of(r, absent, floor) .. pack('>I4', other) end
    for i = keys, keys + count - 1 do brings = brings or ARGV[i] == '' or not receipts_of[ARGV[i]] end
  end
  local acts = brings or (close and not closed)
  if brings and closed then return 'L' .. head_of(r) end
  if acts and expect and not holds(expect, r, head_of(r, absent, floor)) then return 'C' .. head_of(r, absent, floor) end
  if not r then
    if not acts then return pack(ANSWER, 'D', absent, floor, NO_TAG, 0, floor, NO_TAG, stamp) end
    r = fresh(name, absent, floor, stamp)
    records[nth], created[nth] = r, true
  end
  local seq, tag = r.seq, r.tag
  local receipts = apply(r, stamp, events, count, keys, prints, receipts_of)
  if close and not closed then
    r.closed = 1
    bells[#bells + 1], bells[#bells + 2] = hint_of(r), name
  end
  if acts then changed[nth] = r end
  return pack(ANSWER, 'D', r.epoch, r.seq, r.tag, r.closed, seq, tag, stamp) .. receipts
end

while ARGV[at] do
  local nth, count, flags, absent = unpacked(BATCH, ARGV[at])
  local close, expect, keys, prints = flags % 2 == 1, nil, nil, nil
  at = at + 1
  if flags >= 4 then
    expect = ARGV[at]
    at = at + 1
  end
  local events = at
  at = at + count
  if flags % 4 >= 2 then
    keys, prints = at, ARGV[at + count]
    at = at + count + 1
  end
  replies[#replies + 1] = append(nth, name_of(ARGV[3 + nth]), absent, expect, close, events, count, keys,
    prints)
end
local writes = {}
for nth, r in pairs(changed) do
  fit(r, max(now, r.last))
  writes[#writes + 1], writes[#writes + 2] = ARGV[3 + nth], settle(r)
  if created[nth] then turn(r, now) end
end
if #writes > 0 then call('HSET', place, unpack(writes)) end
if #bells > 0 then call('PUBLISH', PREFIX .. ':bell', table.concat(bells)) end
return { 'ok', unpack(replies) }
