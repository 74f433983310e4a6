-- What is needed for a group with keys, an expectation or a close, or for one on a closed channel. `RECEIPT` is the
-- length of a receipt (seq, tag and time, packed). A remembered key is a receipt and the fingerprint of its event;
-- older versions stored the receipt alone.
--
-- The keys of a channel are in two hashes that alternate, one window each. A mark states which log and window a hash
-- belongs to, and how long the window is; keys in it count until one window after its end.

local call, attempt, ARGV, it = redis.call, redis.pcall, ARGV, {}

local function hash_of(r, nth) return PREFIX .. ':keys' .. nth .. ':' .. r.name end

local function mark_of(r, window) return string.format('%s %.0f %.0f', r.epoch, window, WINDOW) end

local function counts(r, mark, stamp)
  if not mark then return false end
  local epoch, window, length = string.match(mark, '^(%x+) (%d+) (%d+)$')
  return epoch == r.epoch and stamp < (window + 1) * length + WINDOW
end

-- The values of these keys in a hash; none when the hash is of another type.
local function held(hash, asked, from, to)
  local got = attempt('HMGET', hash, '\0', unpack(asked, from, to))
  if not got.err then return got end
  if string.sub(got.err, 1, 9) ~= 'WRONGTYPE' then error(got) end
  return {}
end

-- The receipts of those of the group's keys that are remembered.
local function known(r, stamp, keys, count)
  local asked, found = {}, r.keys or {}
  r.keys, r.marks = found, r.marks or {}
  for i = keys, keys + count - 1 do
    if ARGV[i] ~= '' and not found[ARGV[i]] then asked[#asked + 1] = ARGV[i] end
  end
  if r.new then return found end
  for nth = 0, 1 do
    for from = 1, #asked, 100 do
      local to = math.min(from + 99, #asked)
      local got = held(hash_of(r, nth), asked, from, to)
      r.marks[nth] = got[1]
      if not counts(r, got[1], stamp) then break end
      for i = from, to do
        local receipt = got[i - from + 2]
        -- A seq above the head belongs to an append that the record does not count.
        if receipt and struct.unpack('>d', receipt) <= r.base then found[asked[i]] = receipt end
      end
    end
  end
  return found
end

local function print_of(prints, nth) return string.sub(prints, nth * 8 + 1, nth * 8 + 8) end

-- The first event that differs from what its key stands for (stored, or earlier in the group); whether any event is
-- new; and whether all are.
local function reused(keys, count, prints, receipts)
  local first, brings, all = {}, false, true
  for nth = 0, count - 1 do
    local key = ARGV[keys + nth]
    local print, stored = print_of(prints, nth), receipts[key]
    if key == '' then
      brings = true
    elseif stored then
      if #stored > RECEIPT and string.sub(stored, RECEIPT + 1) ~= print then return nth end
      all = false
    elseif first[key] then
      if first[key] ~= print then return nth end
      all = false
    else
      brings, first[key] = true, print
    end
  end
  return nil, brings, all
end

-- A reply when nothing is to be appended; else '', whether the group changes anything, and the known receipts if any
-- event is known.
function it.judge(r, stamp, expect, close, count, keys, prints)
  local closed, brings, all, receipts, other = r.closed == 1, count > 0, true, nil, nil
  if keys then
    receipts = known(r, stamp, keys, count)
    other, brings, all = reused(keys, count, prints, receipts)
    if other then return 'R' .. head_of(r) .. struct.pack('>I4', other) end
  end
  local acts = brings or (close and not closed)
  if brings and closed then return 'L' .. head_of(r) end
  if acts and expect and not holds(expect, r) then return 'C' .. head_of(r) end
  return '', acts, not all and receipts
end

-- Plans to remember the keys of planned events, starting with the nth of the group.
function it.note(r, stamp, seq, count, keys, prints, nth)
  local new, known, added = r.remember or {}, r.keys, r.added
  local at, event = #new, 2 * (seq - r.base)
  for i = nth, nth + count - 1 do
    local key = ARGV[keys + i]
    seq, event = seq + 1, event + 2
    if key ~= '' then
      local tag, time = struct.unpack('>c4d', added[event])
      if time < 0 then time = stamp end
      local receipt = struct.pack('>dc4d', seq, tag, time) .. print_of(prints, i)
      new[at + 1], new[at + 2], known[key], at = key, receipt, receipt, at + 2
    end
  end
  r.remember = new
end

-- Remembers the keys of appended events. The hash expires one window after its own window ends: stamps are never behind
-- the server's time, so no key in it is needed for longer.
function it.remember(r)
  local new, window = r.remember, math.floor(r.last / WINDOW)
  local nth = window % 2
  local hash, mark, there = hash_of(r, nth), mark_of(r, window), r.marks[nth]
  if there ~= mark then
    -- A hash with another window length may still count.
    if not counts(r, there, r.last) then call('UNLINK', hash) end
    call('HSET', hash, '\0', mark)
  end
  for from = 1, #new, 200 do call('HSET', hash, unpack(new, from, math.min(from + 199, #new))) end
  if there ~= mark then call('PEXPIRE', hash, string.format('%.0f', (window + 2) * WINDOW - now + 1000)) end
end

return it
