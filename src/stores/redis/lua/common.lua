-- What all scripts share. The lines before these set the constants PREFIX, INLINE, WAITS, WRITES, FORMAT (its number, and
-- OWN_FORMAT as it is stored), and this node's settings: EVENTS, AGE, BYTES, FORGET and WINDOW, and as they stay when other
-- nodes' settings raise these: OWN (all five as one text), OWN_AGE and OWN_WINDOW.
-- KEYS[1] is the place, KEYS[2] the turns of the janitor; ARGV[1] is the place's epoch as the caller knows it, ARGV[2] the
-- time or '' for the server's, ARGV[3] how many channels it is about, and ARGV[4] and on the fields of their records. Every
-- other key begins with the same hash tag, so it is in the same slot.
--
-- A script that fails is not undone, so each first finds out everything that can be wrong, and then writes in an order in
-- which every beginning of it is a healthy state: entries before the record that counts them, what a log loses after the
-- record that does without it, a longer life of a key before the record that relies on it, and keys of events after the
-- events. What a log has that its record does not count (a surplus) is not part of it, and goes at the next use.
--
-- What makes a script slow is not the commands but Lua: every string that is made is hashed byte for byte, and every command
-- costs about as much as making a string of 200 bytes. So texts come packed as they are stored, and are handed on as they are.

local call, attempt, try, pack, unpacked, max = redis.call, redis.pcall, pcall, struct.pack, struct.unpack, math.max
local place, turns, names = KEYS[1], KEYS[2], PREFIX .. ':names'

-- Lua's own tostring would round above 1e14.
local function num(n) return string.format('%.0f', n) end

-- What follows the channels in ARGV.
local REST = 4 + tonumber(ARGV[3])

local now = tonumber(ARGV[2])
if not now then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

local function name_of(field) return string.sub(field, 3) end
local function log_of(name) return PREFIX .. ':log:' .. name end
local function keys_of(name, nth) return PREFIX .. ':keys' .. nth .. ':' .. name end

local function corrupt(what) error({ err = 'CORRUPT ' .. what }) end

-- What a failure that was caught says. One without a code is Lua's own, which only stored data can cause.
local function reason(problem)
  if type(problem) == 'table' then return tostring(problem.err) end
  return 'CORRUPT ' .. tostring(problem)
end

-- What a command answers; nil when something of another type is stored there.
local function of_type(answer)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.sub(answer.err, 1, 9) ~= 'WRONGTYPE' then error(answer) end
end

-- Numbers are doubles, which hold 53 bits; so an epoch, which has 64, stays a text. Packing is one call into C, where
-- formatting each number would be the most of an append. Tags are only compared, so they stay texts too.
local RECORD, HEADER, EVENT = '>c16c4Bc4ddddddddd', '>I4c4dddd', '>c4d'
local NO_TAG, MOST, HUGE = '\0\0\0\0', 2 ^ 53, 2 ^ 64

-- Whatever a record holds, what is made of it is a number that a log can have.
local function parse(name, text)
  if #text ~= 97 then corrupt('a record cannot be read') end
  local epoch, tag, closed, etag, seq, eseq, dropped, top, sum, esum, first, last, ttl = unpacked(RECORD, text)
  local counts = eseq >= 0 and seq >= eseq and seq < MOST and seq % 1 == 0 and eseq % 1 == 0
  local sums = esum >= 0 and sum >= esum and sum < MOST
  local times = first >= 0 and first < MOST and last >= 0 and last < MOST and ttl >= 0 and ttl < HUGE
  local tops = dropped >= -1 and dropped < HUGE and top >= -1 and top < HUGE
  if not (counts and sums and times and tops and closed <= 1 and string.find(epoch, '^%x+$')) then
    corrupt('a record says what cannot be')
  end
  return { name = name, log = log_of(name), epoch = epoch, tag = tag, closed = closed, etag = etag, seq = seq, eseq = eseq,
    dropped = dropped, top = top, sum = sum, esum = esum, first = first, last = last, ttl = ttl, cut = false, base = seq }
end

local function text_of(r)
  return pack(RECORD, r.epoch, r.tag, r.closed, r.etag, r.seq, r.eseq, r.dropped, r.top, r.sum, r.esum, r.first,
    r.last, r.ttl)
end

-- An entry's header: how long its event is, its predecessor's tag, stamp, time, and what the log counted before it: bytes
-- and largest time. Its own tag is the first that its event says.
local function header(text)
  if #text ~= 40 then corrupt('an entry cannot be read') end
  local at, length = {}, nil
  length, at.prev, at.stamp, at.time, at.before, at.top = unpacked(HEADER, text)
  return at
end

local function id_of(seq) return string.format('%d-0', seq) end

-- The header and the event of an entry: one that is stored, or one that will be, above `base`.
local function entry(r, seq)
  if seq > r.base then return header(r.heads[seq - r.base]), r.events[seq - r.base] end
  local id = id_of(seq)
  local found = call('XRANGE', r.log, id, id)[1]
  if found then return header(found[2][2]), found[2][4] end
end

-- The entries up to `seq` are gone; `after` is the header of the next one, or nil when none is left. The largest time that
-- was dropped counts no more than the last of their stamps: else a time far ahead would be told of for ever.
local function cut(r, seq, after)
  if after then
    local last = entry(r, seq) or after
    r.eseq, r.etag, r.esum, r.first = seq, after.prev, after.before, after.stamp
    r.dropped = math.min(after.top, last.stamp)
  else
    r.eseq, r.etag, r.esum, r.first = r.seq, r.tag, r.sum, r.last
    r.dropped = math.min(r.top, r.last)
    r.ttl = 0
  end
  r.cut = true
end

-- Whether there is more than is kept. The slack of an eighth spreads the work over many appends.
local function is_too_much(r, now)
  local count = r.seq - r.eseq
  return count > EVENTS * 1.125 or r.sum - r.esum > BYTES * 1.125 or (count > 0 and r.first < now - AGE * 1.125)
end

-- Applies retention to the record alone. Running totals in the entries make it a search, not a walk: the work is bounded
-- however much has to go.
local function fit(r, now)
  local oldest = now - AGE
  if r.seq == r.eseq or not is_too_much(r, now) then return end
  if r.last < oldest then return cut(r) end
  local low, high, found = max(r.eseq, r.seq - EVENTS), r.seq, nil
  local probe = low
  while low < high do
    local after = entry(r, probe + 1)
    if after and after.stamp >= oldest and (r.sum - after.before <= BYTES or probe + 1 == r.seq) then
      high, found = probe, after
    else
      low = probe + 1
    end
    probe = math.floor((low + high) / 2)
  end
  if high > r.eseq then cut(r, high, found) end
end

local function forgotten(r) return max(now, r.last) - r.last > max(AGE + FORGET, WINDOW) end

-- The record of a channel from its text, or nil. A log that has less than its record says was evicted or deleted: all of it
-- is gone. What it has more is a surplus.
local function load(name, text)
  if not text then return nil end
  local r = parse(name, text)
  local count, there = r.seq - r.eseq, of_type(attempt('XLEN', r.log)) or -1
  if there == count then return r end
  if count > 0 and there > count then
    local first, last, event = entry(r, r.eseq + 1), entry(r, r.seq)
    r.surplus = first and last and first.prev == r.etag and string.sub(event, 1, 4) == r.tag
    if r.surplus then return r end
  end
  if count > 0 then cut(r) end
  r.gone = true
  return r
end

local known = call('HMGET', place, 'epoch', 'format', 'floor', 'keep', unpack(ARGV, 4, REST - 1))
if known[1] ~= ARGV[1] then return { 'moved' } end

-- The format is three numbers: its version, and the oldest that may read and write it.
if known[2] ~= OWN_FORMAT then
  local newest, reader, writer = string.match(known[2] or '', '^(%d+) (%d+) (%d+)$')
  if not newest or FORMAT < tonumber(WRITES and writer or reader) then return { 'format', known[2] or '' } end
end

-- The text of the nth channel's record.
local function stored(nth) return known[4 + nth] end

-- What is kept is the most of what the nodes in use were told to keep. Each kind of them has a line in the place's `keep`:
-- the five settings, when one of them last said that it is there, and 1 once all keys have the life that they ask for.
local LEASE, LINE = 300000, '(%d+ %d+ %d+ %d+ %d+) (%d+) (%d)\n'
local said, ready, others = nil, '0', ''
if known[4] and #known[4] == #OWN + 20 and string.find(known[4], OWN, 1, true) == 1 then
  said, ready = tonumber(string.sub(known[4], #OWN + 2, -4)), string.byte(known[4], -2) == 49 and '1' or '0'
else
  for settings, stamp, done in string.gmatch(known[4] or '', LINE) do
    if settings == OWN then
      said, ready = tonumber(stamp), done
    elseif stamp + LEASE >= now then
      local events, age, bytes, forget, window = string.match(settings, '(%d+) (%d+) (%d+) (%d+) (%d+)')
      others = others .. settings .. ' ' .. stamp .. ' ' .. done .. '\n'
      EVENTS, AGE, BYTES = max(EVENTS, events), max(AGE, age), max(BYTES, bytes)
      FORGET, WINDOW = max(FORGET, forget), max(WINDOW, window)
    end
  end
end

-- The floor of an absent channel, and the field of its bucket, if that is higher than what was the one floor of the place in
-- an older format. The bucket is 64 bits of FNV-1a over the name in two halves, folded.
local function floor_of(name)
  local high, low = 0xcbf29ce4, 0x84222325
  for at = 1, #name do
    local last = low % 256
    low = low - last + bit.bxor(last, string.byte(name, at))
    -- Times 2 ^ 40 + 435.
    local product = low * 435
    high = (high * 435 + math.floor(product / 2 ^ 32) + low % 2 ^ 24 * 256) % 2 ^ 32
    low = product % 2 ^ 32
  end
  local field = 'f:' .. bit.bxor(high, low) % 1024
  return max(tonumber(known[3] or '0'), tonumber(call('HGET', place, field) or '0')), field
end

-- A head: epoch, seq, tag, and whether it is closed.
local HEAD, HINT = '>c16dc4B', '>c1c16dc4BI4H'

local function head_of(r, name, absent)
  if r then return pack(HEAD, r.epoch, r.seq, r.tag, r.closed) end
  local floor = floor_of(name)
  return pack(HEAD, absent, floor, NO_TAG, 0)
end
