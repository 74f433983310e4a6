-- Appends several batches, each to one channel, each whole or not at all. ARGV[REST]: the floor's step. Then the batches,
-- each of them packed: which of the channels, how many events, what it is (1 for one that closes, 2 when any event has a key,
-- 4 when there is a condition), the epoch when absent; then its condition if it has one; its events; and if any has a key
-- all their keys, '' for none, and the fingerprints of all, 8 bytes each, as one text.
--
-- All batches are planned before anything of them is written. Planning does write what was due already: it makes a log fit its
-- record, and forgets a channel whose time has come. What is wrong with one channel fails its batches alone: 'X' and why
-- when nothing of them was done, 'U' and why when that is not known.
--
-- A remembered key is a receipt (seq, tag and time, packed) and the fingerprint of its event; older versions stored the
-- receipt alone.

local at, records, failed, planned, replies, of, bells, rung = REST + 1, {}, {}, {}, {}, {}, {}, {}
local ANSWER, BATCH = '>c1c16dc4Bdc4d', '>HI4Bc16'
local RECEIPT = 20

-- What only keys need, made on demand.
local made_for_keys
local function with_keys()
  if made_for_keys then return made_for_keys end
  local it = {}
  made_for_keys = it

  -- The keys of a channel are in two hashes that take turns, one window each. A mark says of which log and window a hash is,
  -- and how long the window is; what was remembered in it counts until a window after its end.
  local function mark_of(r, window) return r.epoch .. ' ' .. num(window) .. ' ' .. num(WINDOW) end

  local function counts(r, mark, stamp)
    if not mark then return false end
    local epoch, window, length = string.match(mark, '^(%x+) (%d+) (%d+)$')
    return epoch == r.epoch and stamp < (window + 1) * length + WINDOW
  end

  -- The receipts of the batch's keys that are remembered.
  function it.known(name, r, stamp, keys, count)
    local asked, found = {}, {}
    for i = keys, keys + count - 1 do
      if ARGV[i] ~= '' then asked[#asked + 1] = ARGV[i] end
    end
    if not r or #asked == 0 then return found end
    for nth = 0, 1 do
      for from = 1, #asked, 100 do
        local to = math.min(from + 99, #asked)
        local got = of_type(attempt('HMGET', keys_of(name, nth), '\0', unpack(asked, from, to)))
        if not got or not counts(r, got[1], stamp) then break end
        for i = from, to do
          local receipt = got[i - from + 2]
          -- One that is above the head is of an append that the record does not know.
          if receipt and unpacked('>d', receipt) <= r.base then found[asked[i]] = receipt end
        end
      end
    end
    for _, key in ipairs(asked) do found[key] = r.keys and r.keys[key] or found[key] end
    return found
  end

  -- Remembers the keys of what was appended.
  function it.remember(r)
    local new, window = r.remember, math.floor(r.last / WINDOW)
    local hash, mark = keys_of(r.name, window % 2), mark_of(r, window)
    local there = of_type(attempt('HGET', hash, '\0'))
    if there ~= mark then
      -- Of a window of another length it may still count.
      if not counts(r, there, r.last) then call('UNLINK', hash) end
      call('HSET', hash, '\0', mark)
    end
    for from = 1, #new, 200 do call('HSET', hash, unpack(new, from, math.min(from + 199, #new))) end
    call('PEXPIRE', hash, num(2 * WINDOW + 1000))
  end

  function it.print(prints, nth) return string.sub(prints, nth * 8 + 1, nth * 8 + 8) end

  -- The first event that is not what its key stands for: stored, or earlier in the batch.
  function it.reused(keys, count, prints, receipts_of)
    local first = {}
    for nth = 0, count - 1 do
      local key = ARGV[keys + nth]
      if key ~= '' then
        local print, stored = it.print(prints, nth), receipts_of[key]
        if stored then
          if #stored > RECEIPT and string.sub(stored, RECEIPT + 1) ~= print then return nth end
        elseif (first[key] or print) ~= print then
          return nth
        end
        first[key] = print
      end
    end
  end

  return it
end

local function record(nth, name)
  local r = records[nth]
  if r == nil then
    r = open(name, stored(nth))
    if r and forgotten(r) then
      seldom().forget(name, r.seq)
      r = nil
    end
    records[nth] = r or false
  end
  return r or nil
end

-- Plans what is new, and returns the known ones as receipts: which event, seq, tag and time. The hint's parts are joined
-- once for all.
local function apply(r, stamp, events, count, keys, prints, receipts_of)
  local ARGV, bells, receipts, size, added = ARGV, bells, '', 0, 0
  local seq, tag_before, first, part = r.seq, r.tag, #bells + 1, #bells + 2
  bells[first], bells[part] = '', r.name
  for nth = 0, count - 1 do
    local event, key = ARGV[events + nth], keys and ARGV[keys + nth] or ''
    if key ~= '' and receipts_of[key] then
      receipts = receipts .. pack('>I4', nth) .. string.sub(receipts_of[key], 1, RECEIPT)
    else
      local head, tag, time = push(r, event, stamp)
      if key ~= '' then
        local receipt, new = pack('>dc4d', r.seq, tag, time) .. with_keys().print(prints, nth), r.remember or {}
        new[#new + 1], new[#new + 2], r.remember, r.keys = key, receipt, new, r.keys or {}
        receipts_of[key], r.keys[key] = receipt, receipt
      end
      size, added = size + #event, added + 1
      if size <= INLINE then
        bells[part + 1], bells[part + 2] = head, event
        part = part + 2
      end
    end
  end
  if added > 0 and size <= INLINE then
    bells[first] = hint('E', r.name, added, r.epoch, seq, tag_before, 0)
  else
    for nth = part, first + (added > 0 and 2 or 0), -1 do bells[nth] = nil end
    if added > 0 then bells[first] = hint_of(r) end
  end
  return receipts
end

-- `events` is where the batch's events begin, `keys` where their keys do, if any has one; then `prints` are there too.
local function plan(nth, name, absent, expect, close, events, count, keys, prints)
  local r = record(nth, name)
  local closed, stamp = r ~= nil and r.closed == 1, r and r.last > now and r.last or now
  local receipts_of, brings = nil, count > 0
  if keys then
    receipts_of, brings = with_keys().known(name, r, stamp, keys, count), false
    local other = with_keys().reused(keys, count, prints, receipts_of)
    if other then return 'R' .. head_of(r, name, absent) .. pack('>I4', other) end
    for i = keys, keys + count - 1 do brings = brings or ARGV[i] == '' or not receipts_of[ARGV[i]] end
  end
  local acts = brings or (close and not closed)
  if brings and closed then return 'L' .. head_of(r) end
  if acts and expect and not holds(expect, r, head_of(r, name, absent)) then return 'C' .. head_of(r, name, absent) end
  if not r then
    local floor = floor_of(name)
    if not acts then return pack(ANSWER, 'D', absent, floor, NO_TAG, 0, floor, NO_TAG, stamp) end
    r = seldom().fresh(name, absent, floor, stamp)
    records[nth] = r
  end
  local seq, tag = r.seq, r.tag
  local receipts = apply(r, stamp, events, count, keys, prints, receipts_of)
  if close and not closed then
    r.closed = 1
    bells[#bells + 1], bells[#bells + 2] = hint_of(r), name
  end
  if acts then planned[nth] = r end
  return pack(ANSWER, 'D', r.epoch, r.seq, r.tag, r.closed, seq, tag, stamp) .. receipts
end

while ARGV[at] do
  local nth, count, flags, absent = unpacked(BATCH, ARGV[at])
  local close, expect, keys, prints, reply = flags % 2 == 1, nil, nil, nil, #replies + 1
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
  of[reply], replies[reply] = nth, ''
  if not failed[nth] then
    local fine, answer =
      try(plan, nth, name_of(ARGV[3 + nth]), absent, expect, close, events, count, keys, prints)
    if fine then replies[reply] = answer else failed[nth] = 'X' .. reason(answer) end
  end
  rung[reply] = #bells
end

for nth, r in pairs(planned) do
  if failed[nth] then
    planned[nth] = nil
  elseif is_too_much(r, r.last > now and r.last or now) then
    local fine, problem = try(fit, r, r.last > now and r.last or now)
    if not fine then failed[nth], planned[nth] = 'X' .. reason(problem), nil end
  end
end

-- From here on it is written.
local writes = {}
for nth, r in pairs(planned) do
  local fine, problem = try(add, r)
  if fine then
    writes[#writes + 1], writes[#writes + 2] = ARGV[3 + nth], text_of(r)
  else
    seldom().undo(r)
    failed[nth], planned[nth] = 'U' .. reason(problem), nil
  end
end
if #writes > 0 then
  if confirms then writes[#writes + 1], writes[#writes + 2] = 'keep', seldom().keep() end
  local written = attempt('HSET', place, unpack(writes))
  for nth, r in pairs(planned) do
    if type(written) == 'number' then
      if r.cut then try(trim, r) end
      if r.remember then try(with_keys().remember, r) end
      if r.new then
        try(seldom().turn, r)
        try(seldom().list, r.name)
      end
    else
      seldom().undo(r)
      failed[nth] = 'U' .. reason(written)
    end
  end
elseif WAITS then
  -- Who waits for replicas waits for what this connection wrote; what is told of here, another may have written.
  call('HSET', place, 'epoch', ARGV[1])
end
if next(failed) then
  -- What is told of a batch that failed is taken back.
  for reply, nth in ipairs(of) do
    if failed[nth] then
      replies[reply] = failed[nth]
      for part = (rung[reply - 1] or 0) + 1, rung[reply] do bells[part] = '' end
    end
  end
end
if #bells > 0 then ring(bells) end
return { 'ok', unpack(replies) }
