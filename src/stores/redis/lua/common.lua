-- What all scripts share. The lines before these set the constants PREFIX, EVENTS, AGE, BYTES, FORGET, WINDOW and INLINE.
-- KEYS[1] is the place, KEYS[2] the turns of the janitor; ARGV[1] is the place's epoch as the caller knows it, ARGV[2] the
-- time or '' for the server's, ARGV[3] how many channels it is about, and ARGV[4] and on the fields of their records. Every
-- other key begins with the same hash tag, so it is in the same slot.
--
-- What makes a script slow is not the commands but Lua: every string that is made is hashed byte for byte, and every command
-- costs about as much as making a string of 200 bytes. So texts come packed as they are stored, and are handed on as they are.

local call, pcall, pack, unpacked, max = redis.call, redis.pcall, struct.pack, struct.unpack, math.max
local place, turns = KEYS[1], KEYS[2]

-- Lua's own tostring would round above 1e14.
local function num(n) return string.format('%.0f', n) end

-- What follows the channels in ARGV.
local REST = 4 + tonumber(ARGV[3])

local function clock()
  if ARGV[2] ~= '' then return tonumber(ARGV[2]) end
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function name_of(field) return string.sub(field, 3) end
local function log_of(name) return PREFIX .. ':log:' .. name end
local function keys_of(name, nth) return PREFIX .. ':keys' .. nth .. ':' .. name end

-- Numbers are doubles, which hold 53 bits; so an epoch, which has 64, stays a text. Packing is one call into C, where
-- formatting each number would be the most of an append. Tags are only compared, so they stay texts too.
local RECORD, HEADER, EVENT = '>c16c4Bc4ddddddddd', '>I4c4dddd', '>c4d'
local NO_TAG = '\0\0\0\0'

local function parse(name, text)
  if #text ~= 97 then error({ err = 'CORRUPT a record cannot be read' }) end
  local epoch, tag, closed, etag, seq, eseq, dropped, top, sum, esum, first, last, ttl = unpacked(RECORD, text)
  return { name = name, log = log_of(name), epoch = epoch, tag = tag, closed = closed, etag = etag, seq = seq, eseq = eseq,
    dropped = dropped, top = top, sum = sum, esum = esum, first = first, last = last, ttl = ttl, cut = false }
end

local function text_of(r)
  return pack(RECORD, r.epoch, r.tag, r.closed, r.etag, r.seq, r.eseq, r.dropped, r.top, r.sum, r.esum, r.first,
    r.last, r.ttl)
end

-- An entry's header: how long its event is, its predecessor's tag, stamp, time, and what the log counted before it: bytes
-- and largest time. Its own tag is the first that its event says.
local function header(text)
  if #text ~= 40 then error({ err = 'CORRUPT an entry cannot be read' }) end
  local at, length = {}, nil
  length, at.prev, at.stamp, at.time, at.before, at.top = unpacked(HEADER, text)
  return at
end

local function id_of(seq) return string.format('%d-0', seq) end

-- The header and the event of an entry.
local function entry(log, seq)
  local id = id_of(seq)
  local found = call('XRANGE', log, id, id)[1]
  if found then return header(found[2][2]), found[2][4] end
end

-- The entries up to `seq` are gone; `after` is the header of the next one, or nil when none is left. The largest time that
-- was dropped counts no more than the last of their stamps: else a time far ahead would be told of for ever.
local function cut(r, seq, after)
  if after then
    local last = entry(r.log, seq) or after
    r.eseq, r.etag, r.esum, r.first = seq, after.prev, after.before, after.stamp
    r.dropped = math.min(after.top, last.stamp)
  else
    r.eseq, r.etag, r.esum, r.first = r.seq, r.tag, r.sum, r.last
    r.dropped = math.min(r.top, r.last)
    r.ttl = 0
  end
  r.cut = true
end

-- Applies retention to the record alone. Running totals in the entries make it a search, not a walk: the work is bounded
-- however much has to go. The slack of an eighth spreads it over many appends.
local function fit(r, now)
  local count, oldest = r.seq - r.eseq, now - AGE
  if count == 0 then return end
  if count <= EVENTS * 1.125 and r.sum - r.esum <= BYTES * 1.125 and r.first >= oldest - AGE / 8 then return end
  if r.last < oldest then return cut(r) end
  local low, high, found = max(r.eseq, r.seq - EVENTS), r.seq, nil
  local probe = low
  while low < high do
    local after = entry(r.log, probe + 1)
    if not after then return cut(r) end
    if after.stamp >= oldest and (r.sum - after.before <= BYTES or probe + 1 == r.seq) then
      high, found = probe, after
    else
      low = probe + 1
    end
    probe = math.floor((low + high) / 2)
  end
  if high > r.eseq then cut(r, high, found) end
end

local function forgotten(r, now) return now - r.last > max(AGE + FORGET, WINDOW) end

-- The record of a channel from its text, or nil. A log that is not as long as its record says was evicted or deleted: all
-- of it is gone.
local function load(name, text)
  if not text then return nil end
  local r = parse(name, text)
  local count = r.seq - r.eseq
  if count > 0 and call('XLEN', r.log) ~= count then cut(r) end
  return r
end

-- Makes the log as short as the record says, and returns the record to be written.
local function settle(r)
  if r.cut then
    if r.eseq == r.seq then call('UNLINK', r.log) else call('XTRIM', r.log, 'MINID', id_of(r.eseq + 1)) end
  end
  if r.seq > r.eseq and r.last - r.ttl >= AGE / 2 then
    -- Frees the memory when nobody is left to do it; never before the newest entry is too old.
    call('PEXPIRE', r.log, num(2 * AGE + 60000))
    r.ttl = r.last
  end
  return text_of(r)
end

-- When the janitor has something to do for a channel.
local function turn(r, now)
  local due = r.last + max(AGE + FORGET, WINDOW) + 1
  if r.seq > r.eseq then due = math.min(due, r.first + AGE + math.floor(AGE / 8) + 1) end
  call('ZADD', turns, num(max(due, now + math.floor(AGE / 16) + 1)), r.name)
end

-- Forgets a channel. The floor moves by a random step more: two histories that parted in a failover do not meet again.
local function forget(name, r, floor, step)
  floor = max(floor, r.seq) + step
  call('HSET', place, 'floor', num(floor))
  call('HDEL', place, 'c:' .. name)
  call('UNLINK', log_of(name), keys_of(name, 0), keys_of(name, 1))
  call('ZREM', turns, name)
  return floor
end

local function fresh(name, epoch, seq, stamp)
  -- What an evicted record may have left behind.
  call('UNLINK', log_of(name), keys_of(name, 0), keys_of(name, 1))
  return { name = name, log = log_of(name), epoch = epoch, seq = seq, tag = NO_TAG, closed = 0, eseq = seq, etag = NO_TAG,
    dropped = -1, top = -1, sum = 0, esum = 0, first = stamp, last = stamp, ttl = 0, cut = false }
end

-- Appends one entry and returns its header, its tag and its time. An event is packed: its tag, its time or -1 for the
-- append's, and what it is.
local function push(r, event, stamp)
  local tag, time = unpacked(EVENT, event)
  if time < 0 then time = stamp end
  local id, head = id_of(r.seq + 1), pack(HEADER, #event, r.tag, stamp, time, r.sum, r.top)
  local added = pcall('XADD', r.log, id, 'h', head, 'e', event)
  if type(added) == 'table' and added.err then
    -- Something else is stored there, such as an older log that somebody restored.
    call('UNLINK', r.log)
    cut(r)
    r.cut = false
    call('XADD', r.log, id, 'h', head, 'e', event)
  end
  if r.seq == r.eseq then r.first = stamp end
  r.seq, r.tag, r.sum, r.last = r.seq + 1, tag, r.sum + #event + #r.name + 50, stamp
  if time > r.top then r.top = time end
  return head, tag, time
end

-- A head: epoch, seq, tag, and whether it is closed.
local HEAD, HINT = '>c16dc4B', '>c1c16dc4BI4H'

local function head_of(r, absent, floor)
  if r then return pack(HEAD, r.epoch, r.seq, r.tag, r.closed) end
  return pack(HEAD, absent, floor, NO_TAG, 0)
end

-- The condition is nothing, 'new', or a head without its last byte.
local function holds(expect, r, head)
  if expect == '' then return true end
  if expect == 'new' then return not r end
  return expect == string.sub(head, 1, 28)
end

-- What a hint begins with: 'H' and a head, or 'E' and the position before some entries; how many; the channel follows.
local function hint(kind, name, count, epoch, seq, tag, closed)
  return pack(HINT, kind, epoch, seq, tag, closed, count, #name)
end

local function hint_of(r) return hint('H', r.name, 0, r.epoch, r.seq, r.tag, r.closed) end

local known = call('HMGET', place, 'epoch', 'floor', unpack(ARGV, 4, REST - 1))
if known[1] ~= ARGV[1] then return { 'moved' } end
local floor = tonumber(known[2] or '0')
