-- What the scripts share that write.

-- Whether it is time to say again that there is a node with these settings.
local confirms = not said or now - said > LEASE / 4

-- A record to be written.
local function open(name, text)
  local r = load(name, text)
  if r and r.surplus then seldom().mend(r) end
  return r
end

-- Plans to append one entry, and returns its header, its tag and its time. An event is packed: its tag, its time or -1 for
-- the append's, and what it is.
local function push(r, event, stamp)
  local tag, time = unpacked(EVENT, event)
  if time < 0 then time = stamp end
  local head, seq = pack(HEADER, #event, r.tag, stamp, time, r.sum, r.top), r.seq
  if seq == r.eseq then r.first = stamp end
  if seq == r.base then
    r.heads, r.events = { head }, { event }
  else
    local nth = seq - r.base + 1
    r.heads[nth], r.events[nth] = head, event
  end
  r.seq, r.tag, r.sum, r.last = seq + 1, tag, r.sum + #event + #r.name + 50, stamp
  if time > r.top then r.top = time end
  return head, tag, time
end

-- Appends what was planned, before the record is written.
local function add(r)
  local log, base = r.log, r.base
  if r.gone then
    call('UNLINK', log)
    -- What a lost record left behind.
    if r.new then call('UNLINK', keys_of(r.name, 0), keys_of(r.name, 1)) end
  end
  for nth = 1, r.seq - base do
    local id, head, event = id_of(base + nth), r.heads[nth], r.events[nth]
    local added = attempt('XADD', log, id, 'h', head, 'e', event)
    if type(added) == 'table' and added.err then
      -- The log knows a higher id than its last entry's.
      if nth > 1 then error(added) end
      seldom().lower(r, base)
      call('XADD', log, id, 'h', head, 'e', event)
    end
  end
  if r.ttl < r.last + AGE * 1.5 and r.seq > r.eseq then
    -- Frees the memory when nobody is left to do it; never before the newest entry is too old. What the record says of it
    -- is twice as strict as what is set: nodes of older versions take it for when it was set.
    call('PEXPIRE', log, num(4 * AGE + 60000))
    r.ttl = r.last + 2 * AGE
  end
end

-- Makes the log as short as the record says, once that is written.
local function trim(r)
  if r.eseq == r.seq then call('UNLINK', r.log) else call('XTRIM', r.log, 'MINID', id_of(r.eseq + 1)) end
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
local function ring(bells) attempt('PUBLISH', PREFIX .. ':bell', table.concat(bells)) end
