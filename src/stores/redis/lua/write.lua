-- What the scripts share that write.

local step = tonumber(ARGV[REST])

-- What the place's `keep` becomes when it is time to say again that there is a node with these settings, or nil.
local function kept()
  if said and now - said <= LEASE / 4 then return nil end
  if not said or now - said > LEASE then
    ready = '0'
    for settings, _, done in string.gmatch(others, LINE) do
      local age, window = string.match(settings, '%d+ (%d+) %d+ %d+ (%d+)')
      if done == '1' and tonumber(age) >= OWN_AGE and tonumber(window) >= OWN_WINDOW then ready = '1' end
    end
  end
  return others .. OWN .. string.format(' %016.0f ', now) .. ready .. '\n'
end

-- Makes `seq` the last id that a log knows, so that the next one follows it. Servers differ in what XSETID may do; a copy
-- without what was deleted always can.
local function lower(r, seq)
  if not attempt('XSETID', r.log, id_of(seq)).err then return end
  local copy, from, left, some = PREFIX .. ':copy:' .. r.name, '-', call('PTTL', r.log), nil
  call('UNLINK', copy)
  repeat
    some = call('XRANGE', r.log, from, id_of(seq), 'COUNT', 100)
    for _, found in ipairs(some) do
      call('XADD', copy, found[1], unpack(found[2]))
      from = '(' .. found[1]
    end
  until #some < 100
  if from == '-' then return call('UNLINK', r.log) end
  if left > 0 then call('PEXPIRE', copy, num(left)) end
  call('RENAME', copy, r.log)
end

-- Removes what a log has above its record's head: what a call left behind that did not come to its end.
local function shorten(r)
  local more
  repeat
    local ids = {}
    more = call('XRANGE', r.log, id_of(r.seq + 1), '+', 'COUNT', 100)
    for nth, found in ipairs(more) do ids[nth] = found[1] end
    if #ids > 0 then call('XDEL', r.log, unpack(ids)) end
  until #more < 100
  lower(r, r.seq)
end

-- Makes a log that has more than its record counts what the record says.
local function mend(r)
  shorten(r)
  call('XTRIM', r.log, 'MINID', id_of(r.eseq + 1))
  r.surplus = false
  if call('XLEN', r.log) ~= r.seq - r.eseq then
    cut(r)
    r.gone = true
  end
end

-- A record to be written.
local function open(name, text)
  local r = load(name, text)
  if r and r.surplus then mend(r) end
  return r
end

local function fresh(name, epoch, seq, stamp)
  return { name = name, log = log_of(name), epoch = epoch, seq = seq, tag = NO_TAG, closed = 0, eseq = seq, etag = NO_TAG,
    dropped = -1, top = -1, sum = 0, esum = 0, first = stamp, last = stamp, ttl = 0, cut = false, base = seq, adds = {},
    gone = true, new = true }
end

-- Plans to append one entry, and returns its header, its tag and its time. An event is packed: its tag, its time or -1 for
-- the append's, and what it is.
local function push(r, event, stamp)
  local tag, time = unpacked(EVENT, event)
  if time < 0 then time = stamp end
  local adds, at = r.adds, #r.adds
  local head = pack(HEADER, #event, r.tag, stamp, time, r.sum, r.top)
  if r.seq == r.eseq then r.first = stamp end
  r.seq, r.tag, r.sum, r.last = r.seq + 1, tag, r.sum + #event + #r.name + 50, stamp
  adds[at + 1], adds[at + 2], adds[at + 3] = id_of(r.seq), head, event
  if time > r.top then r.top = time end
  return head, tag, time
end

-- Appends what was planned, before the record is written.
local function add(r)
  local adds, log = r.adds, r.log
  if r.gone then call('UNLINK', log) end
  -- What a lost record left behind.
  if r.gone and r.new then call('UNLINK', keys_of(r.name, 0), keys_of(r.name, 1)) end
  for at = 1, #adds, 3 do
    local added = attempt('XADD', log, adds[at], 'h', adds[at + 1], 'e', adds[at + 2])
    if type(added) == 'table' and added.err then
      -- The log knows a higher id than its last entry's.
      if at > 1 then error(added) end
      lower(r, r.base)
      call('XADD', log, adds[at], 'h', adds[at + 1], 'e', adds[at + 2])
    end
  end
  if r.seq > r.eseq and r.ttl < r.last + AGE * 1.5 then
    -- Frees the memory when nobody is left to do it; never before the newest entry is too old. What the record says of it
    -- is twice as strict as what is set: nodes of older versions take it for when it was set.
    call('PEXPIRE', log, num(4 * AGE + 60000))
    r.ttl = r.last + 2 * AGE
  end
end

-- Makes the log as short as the record says, once that is written.
local function trim(r)
  if not r.cut then return end
  if r.eseq == r.seq then call('UNLINK', r.log) else call('XTRIM', r.log, 'MINID', id_of(r.eseq + 1)) end
end

-- Takes back what was appended for a record that could not be written.
local function undo(r)
  if r.gone then return attempt('UNLINK', r.log) end
  r.seq = r.base
  try(shorten, r)
end

local function in_set(set, score, name)
  if of_type(attempt('ZADD', set, score, name)) then return end
  call('UNLINK', set)
  call('ZADD', set, score, name)
end

local function set_turn(name, due) in_set(turns, num(due), name) end

-- All channels in the order of their names.
local function list(name) in_set(names, '0', name) end

-- When the janitor has something to do for a channel.
local function turn(r)
  local due = r.last + max(AGE + FORGET, WINDOW) + 1
  if r.seq > r.eseq then due = math.min(due, r.first + AGE + math.floor(AGE / 8) + 1) end
  set_turn(r.name, max(due, now + math.floor(AGE / 16) + 1))
end

-- Forgets a channel, and returns the floor above it. That moves by a random step more: two histories that parted in a
-- failover do not meet again.
local function forget(name, seq)
  local floor = max(floor_of(name), seq) + step
  call('HSET', place, field_of_floor(name), num(floor))
  call('HDEL', place, 'c:' .. name)
  call('UNLINK', log_of(name), keys_of(name, 0), keys_of(name, 1))
  of_type(attempt('ZREM', turns, name))
  of_type(attempt('ZREM', names, name))
  return floor
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

-- Hints may be lost, and what was done is done.
local function ring(bells)
  if #bells > 0 then attempt('PUBLISH', PREFIX .. ':bell', table.concat(bells)) end
end
