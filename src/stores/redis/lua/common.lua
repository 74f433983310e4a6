-- What all scripts share. The lines before these set the constants PREFIX, EVENTS, AGE, BYTES, FORGET, WINDOW and INLINE.
-- KEYS[1] is the place, KEYS[2] the turns of the janitor; ARGV[1] is the place's epoch as the caller knows it, ARGV[2] the
-- time or '' for the server's. Every other key begins with the same hash tag, so it is in the same slot.

local call, pcall, pack = redis.call, redis.pcall, struct.pack
local place, turns = KEYS[1], KEYS[2]

-- Lua's own tostring would round above 1e14.
local function num(n) return string.format('%.0f', n) end

local function clock()
  if ARGV[2] ~= '' then return tonumber(ARGV[2]) end
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function log_of(name) return PREFIX .. ':log:' .. name end
local function keys_of(name, nth) return PREFIX .. ':keys' .. nth .. ':' .. name end

-- Numbers are doubles, which hold 53 bits; so an epoch, which has 64, stays a text. Packing is one call into C, where
-- formatting each number would be the most of an append.
local RECORD, HEADER = '>c16I4BI4ddddddddd', '>I4I4dddd'

local function parse(text)
  if #text ~= 97 then error({ err = 'CORRUPT a record cannot be read' }) end
  local epoch, tag, closed, etag, seq, eseq, dropped, max, sum, esum, first, last, ttl = struct.unpack(RECORD, text)
  return { epoch = epoch, tag = tag, closed = closed, etag = etag, seq = seq, eseq = eseq, dropped = dropped, max = max,
    sum = sum, esum = esum, first = first, last = last, ttl = ttl, cut = false }
end

local function text_of(r)
  return pack(RECORD, r.epoch, r.tag, r.closed, r.etag, r.seq, r.eseq, r.dropped, r.max, r.sum, r.esum, r.first,
    r.last, r.ttl)
end

-- An entry's header: its tag, its predecessor's, stamp, time, and what the log counted before it: bytes and largest time.
local function header(text)
  if #text ~= 40 then error({ err = 'CORRUPT an entry cannot be read' }) end
  local at = {}
  at.tag, at.prev, at.stamp, at.time, at.before, at.top = struct.unpack(HEADER, text)
  return at
end

local function id_of(seq) return (seq < 1e14 and seq or num(seq)) .. '-0' end

local function entry(log, seq)
  local id = id_of(seq)
  local found = call('XRANGE', log, id, id)[1]
  return found and header(found[2][2])
end

-- The entries up to `seq` are gone; `after` is the header of the next one, or nil when none is left.
local function cut(r, seq, after)
  if after then
    r.eseq, r.etag, r.esum, r.dropped, r.first = seq, after.prev, after.before, after.top, after.stamp
  else
    r.eseq, r.etag, r.esum, r.dropped, r.first = r.seq, r.tag, r.sum, r.max, r.last
    r.ttl = 0
  end
  r.cut = true
end

-- Applies retention to the record alone. Running totals in the entries make it a search, not a walk: the work is bounded
-- however much has to go. The slack of an eighth spreads it over many appends.
local function fit(r, log, now)
  local count, oldest = r.seq - r.eseq, now - AGE
  if count == 0 then return end
  if count <= EVENTS + math.floor(EVENTS / 8) and r.sum - r.esum <= BYTES + math.floor(BYTES / 8)
    and r.first >= oldest - math.floor(AGE / 8) then return end
  if r.last < oldest then return cut(r) end
  local low, high, found = math.max(r.eseq, r.seq - EVENTS), r.seq, nil
  local probe = low
  while low < high do
    local after = entry(log, probe + 1)
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

local function forgotten(r, now) return now - r.last > math.max(AGE + FORGET, WINDOW) end

-- The record of a channel, or nil. A log that is not as long as its record says was evicted or deleted: all of it is gone.
local function load(name)
  local text = call('HGET', place, 'c:' .. name)
  if not text then return nil end
  local r = parse(text)
  local count = r.seq - r.eseq
  if count > 0 and call('XLEN', log_of(name)) ~= count then cut(r) end
  return r
end

-- Makes the log as short as the record says, and writes the record.
local function save(name, r)
  local log = log_of(name)
  if r.cut then
    if r.eseq == r.seq then call('UNLINK', log) else call('XTRIM', log, 'MINID', id_of(r.eseq + 1)) end
  end
  if r.seq > r.eseq and r.last - r.ttl >= math.floor(AGE / 2) then
    -- Frees the memory when nobody is left to do it; never before the newest entry is too old.
    call('PEXPIRE', log, num(2 * AGE + 60000))
    r.ttl = r.last
  end
  call('HSET', place, 'c:' .. name, text_of(r))
end

-- When the janitor has something to do for a channel.
local function turn(name, r, now)
  local due = r.last + math.max(AGE + FORGET, WINDOW) + 1
  if r.seq > r.eseq then due = math.min(due, r.first + AGE + math.floor(AGE / 8) + 1) end
  call('ZADD', turns, num(math.max(due, now + math.floor(AGE / 16) + 1)), name)
end

-- Forgets a channel. The floor moves by a random step more: two histories that parted in a failover do not meet again.
local function forget(name, r, floor, step)
  floor = math.max(floor, r.seq) + step
  call('HSET', place, 'floor', num(floor))
  call('HDEL', place, 'c:' .. name)
  call('UNLINK', log_of(name), keys_of(name, 0), keys_of(name, 1))
  call('ZREM', turns, name)
  return floor
end

local function fresh(name, epoch, seq, stamp)
  -- What an evicted record may have left behind.
  call('UNLINK', log_of(name), keys_of(name, 0), keys_of(name, 1))
  return { epoch = epoch, seq = seq, tag = 0, closed = 0, eseq = seq, etag = 0, dropped = -1, max = -1, sum = 0,
    esum = 0, first = stamp, last = stamp, ttl = 0, cut = false }
end

-- Appends one entry and returns its header.
local function push(name, log, r, tag, time, blob, stamp)
  local id = id_of(r.seq + 1)
  local head = pack(HEADER, tag, r.tag, stamp, time, r.sum, r.max)
  local added = pcall('XADD', log, id, 'h', head, 'e', blob)
  if type(added) == 'table' and added.err then
    -- Something else is stored there, such as an older log that somebody restored.
    call('UNLINK', log)
    cut(r)
    r.cut = false
    call('XADD', log, id, 'h', head, 'e', blob)
  end
  if r.seq == r.eseq then r.first = stamp end
  r.seq, r.tag, r.sum, r.last = r.seq + 1, tag, r.sum + #blob + #name + 62, stamp
  if time > r.max then r.max = time end
  return head
end

-- A head: epoch, seq, tag, and whether it is closed.
local HEAD = '>c16dI4B'

local function head_of(r, absent, floor)
  if r then return pack(HEAD, r.epoch, r.seq, r.tag, r.closed) end
  return pack(HEAD, absent, floor, 0, 0)
end

-- The condition is nothing, 'new', or a head without its last byte.
local function holds(expect, r, head)
  if expect == '' then return true end
  if expect == 'new' then return not r end
  return expect == string.sub(head, 1, 28)
end

-- A hint: 'H' and a head, or 'E', the position before some entries and these; with the channel in between.
local function bell(kind, head, name, count) return kind .. head .. pack('>I4H', count, #name) .. name end

local known_place = call('HMGET', place, 'epoch', 'floor')
if known_place[1] ~= ARGV[1] then return { 'moved' } end
local floor = tonumber(known_place[2] or '0')
