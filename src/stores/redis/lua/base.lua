-- The start of every script. Lines before these set the constants PREFIX, INLINE, WAITS, WRITES, FORMAT (its number,
-- and OWN_FORMAT as stored), and this node's settings: EVENTS, AGE, BYTES, FORGET and WINDOW; and also OWN (all five as
-- one text), OWN_AGE and OWN_WINDOW, which stay as they are when other nodes' settings raise the former.
-- KEYS[1] is the place, KEYS[2] the schedule of the janitor; ARGV[1] is the place's epoch as the caller knows it,
-- ARGV[2] the time or '' for the server's, ARGV[3] how many fields of the place the call concerns, and ARGV[4] onwards
-- are these fields: first the records of channels. Every other key starts with the same hash tag, so it is in the same
-- slot.
--
-- A failed script is not rolled back, so every script first finds all problems, and then writes in an order that leaves
-- a valid state after each step: entries before the record that counts them, deletions from a log after the record that
-- no longer needs the entries, a later expiry of a key before the record that relies on it, and keys of events after
-- the events. Entries that a log's record does not count (a surplus) are not part of the log, and are removed at the
-- next use.
--
-- The cost of a script is not its commands but Lua: every string that is created is hashed byte by byte, every command
-- costs about as much as creating a string of 200 bytes, and so does every local that a function captures, each time
-- the script runs. So texts arrive packed as they are stored and are passed on unchanged; and what an append rarely
-- needs is in functions that are only created then and capture nothing, because they contain these lines again.

local call, attempt, try, pack, unpacked, max = redis.call, redis.pcall, pcall, struct.pack, struct.unpack, math.max
local place = KEYS[1]

-- The index in ARGV after the fields.
local REST = 4 + ARGV[3]

-- Numbers are doubles, which hold 53 bits, so a 64-bit epoch stays a text. Packing is one call into C; formatting each
-- number would take most of the time of an append. Tags are only compared, so they stay texts too.
local RECORD, HEADER = '>c16c4Bc4ddddddddd', '>I4c4dddd'
local NO_TAG = '\0\0\0\0'

-- Parses the record of a channel; nil when it is unreadable. Whatever the text holds, the numbers returned are valid
-- for a log.
local function parse(name, log, text)
  if #text ~= 97 then return nil end
  local most, huge = 2 ^ 53, 2 ^ 64
  local epoch, tag, closed, etag, seq, eseq, dropped, top, sum, esum, first, last, ttl = unpacked(RECORD, text)
  local counts = eseq >= 0 and seq >= eseq and seq < most and seq % 1 == 0 and eseq % 1 == 0
  local sums = esum >= 0 and sum >= esum and sum < most
  local times = first >= 0 and first < most and last >= 0 and last < most and ttl >= 0 and ttl < huge
  local tops = dropped >= -1 and dropped < huge and top >= -1 and top < huge
  if not (counts and sums and times and tops and closed <= 1 and tonumber(epoch, 16)) then return nil end
  return { epoch, tag, closed, etag, seq, eseq, dropped, top, sum, esum, first, last, ttl, name, log, seq, false, false, false,
    false, false, false }
end

local function text_of(r)
  return pack(RECORD, r.epoch, r.tag, r.closed, r.etag, r.seq, r.eseq, r.dropped, r.top, r.sum, r.esum, r.first,
    r.last, r.ttl)
end

-- Plans to append the events ARGV[from] to ARGV[to], and adds their future entries to the parts of hints after `part`,
-- if `parts` is given. An event is packed: its tag, its time or -1 for the append's, and its content. An entry's header
-- holds the event's length, the predecessor's tag, stamp, time, and the totals of the log before it: bytes and largest
-- time.
local function push(r, stamp, from, to, parts, part)
  local ARGV, added, seq, tag, sum, top, time = ARGV, r.added or { '', '' }, r.seq, r.tag, r.sum, r.top, nil
  local nth, more = 2 * (seq - r.base), #r.name + 50
  if seq == r.eseq then r.first = stamp end
  for i = from, to do
    local event, before, size = ARGV[i], tag, nil
    tag, time = unpacked('>c4d', event)
    if time < 0 then time = stamp end
    size = #event
    local head = pack(HEADER, size, before, stamp, time, sum, top)
    added[nth + 1], added[nth + 2] = head, event
    if parts then
      parts[part + 1], parts[part + 2] = head, event
      part = part + 2
    end
    nth, sum = nth + 2, sum + size + more
    if time > top then top = time end
  end
  r.seq, r.tag, r.sum, r.top, r.last, r.added = seq + to - from + 1, tag, sum, top, stamp, added
end

-- A packed head: epoch, seq, tag, and whether the channel is closed.
local function head_of(r) return pack('>c16dc4B', r.epoch, r.seq, r.tag, r.closed) end

-- The start of a hint: 'H' and a head, or 'E' and the position before some entries; how many; the channel follows.
local function hint(kind, name, count, epoch, seq, tag, closed)
  return pack('>c1c16dc4BI4H', kind, epoch, seq, tag, closed, count, #name)
end

local function hint_of(r) return hint('H', r.name, 0, r.epoch, r.seq, r.tag, r.closed) end

-- Whether a channel matches the expectation: 'new' for one that does not exist, else a packed head without its last
-- byte.
local function holds(expect, r)
  if expect == 'new' then return r.new and not r.acts end
  return expect == '' or expect == string.sub(head_of(r), 1, 28)
end
