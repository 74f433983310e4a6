-- Functions on records and entries.

-- Lua's tostring rounds above 1e14.
local function num(n) return string.format('%.0f', n) end

local function name_of(field) return string.sub(field, 3) end
local function log_of(name) return PREFIX .. ':log:' .. name end
local function keys_of(name, nth) return PREFIX .. ':keys' .. nth .. ':' .. name end

local function corrupt(what) error({ err = 'CORRUPT ' .. what }) end

-- The message of a caught failure, with its code. A failure without a code is Lua's own, and only stored data can cause
-- that.
local function reason(problem)
  local text = type(problem) == 'table' and problem.err or tostring(problem)
  return string.find(text, '^%u+ ') and text or 'CORRUPT ' .. text
end

-- The reply to a command; nil when the key holds another type.
local function of_type(answer)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.sub(answer.err, 1, 9) ~= 'WRONGTYPE' then error(answer) end
end

local function header(text)
  if #text ~= 40 then corrupt('an entry cannot be read') end
  local at, length = {}, nil
  length, at.prev, at.stamp, at.time, at.before, at.top = unpacked(HEADER, text)
  return at
end

local function id_of(seq) return string.format('%d-0', seq) end

-- The header and the event of an entry: a stored one, or a planned one above `base`.
local function entry(r, seq)
  if seq > r.base then
    local nth = 2 * (seq - r.base)
    return header(r.added[nth - 1]), r.added[nth]
  end
  local id = id_of(seq)
  local found = call('XRANGE', r.log, id, id)[1]
  if found then return header(found[2][2]), found[2][4] end
end

-- Drops the entries up to `seq`; `after` is the header of the next one, or nil when none is left. The largest dropped
-- time counts no more than the last dropped stamp: otherwise a time far in the future would be reported for ever.
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

-- Whether more is stored than is kept. The slack of an eighth spreads the work over many appends.
local function is_too_much(r, now)
  local count = r.seq - r.eseq
  return count > EVENTS * 1.125 or r.sum - r.esum > BYTES * 1.125 or (count > 0 and r.first < now - AGE * 1.125)
end

-- Applies retention to the record alone. The running totals in the entries allow bisection instead of a walk, so the
-- work is bounded however much is dropped.
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

local function forgotten(r) return now - r.last > REMEMBERED end

local function parsed(name, text) return parse(name, log_of(name), text) or corrupt('a record cannot be read') end

-- Loads the record of a channel, or nil. A log with fewer entries than its record counts was evicted or deleted: all of
-- it is gone. Further entries are a surplus.
local function load(name, text)
  if not text then return nil end
  local r = parsed(name, text)
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

-- The floor of an absent channel (no lower than the single floor that an older format had for the place), and the field
-- of its bucket. The bucket is the 64-bit FNV-1a hash of the name, computed in two halves and folded.
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
