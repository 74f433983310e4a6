-- One consistent page; writes nothing. ARGV[3]: channel; ARGV[4]: most events; ARGV[5]: most bytes; ARGV[6]: how to start:
-- 'earliest', 'latest', 'last' n, 'time' ms, or 'after' epoch seq tag.

local now, name, most, most_bytes = clock(), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local log, r = log_of(name), load(name)
if not r then return { 'ok', '', num(floor) } end
now = math.max(now, r.last)
if forgotten(r, now) then return { 'forgotten' } end
fit(r, log, now)

local reply = { 'ok', text_of(r), num(floor), '', '', '', '' }
local average = (r.sum - r.esum) / math.max(1, r.seq - r.eseq)
local chunk = math.max(1, math.min(100, most, math.ceil(most_bytes / math.max(1, average)) + 1))

local function tag_at(seq)
  if seq == r.seq then return r.tag end
  if seq == r.eseq then return r.etag end
  local there = entry(log, seq)
  return there and there.tag
end

-- Calls `take` with each entry above `seq` until it returns false.
local function walk(seq, take)
  while seq < r.seq do
    local got = call('XRANGE', log, id_of(seq + 1), '+', 'COUNT', chunk)
    if #got == 0 then error({ err = 'CORRUPT a log is shorter than its record says' }) end
    for _, found in ipairs(got) do
      seq = seq + 1
      if found[1] ~= id_of(seq) then error({ err = 'CORRUPT a log has a hole' }) end
      if take(seq, found[2][2], found[2][4]) == false then return end
    end
  end
end

local count, bytes = 0, 0
-- Takes an entry if it fits; the first always does.
local function add(seq, head, blob)
  local size = #blob + #name + 62
  if count >= most or (count > 0 and bytes + size > most_bytes) then return false end
  count, bytes = count + 1, bytes + size
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = num(seq), head, blob
end

local function page(seq)
  reply[4], reply[5] = num(seq), num(tag_at(seq) or 0)
  if most > 0 then walk(seq, add) end
end

-- Largest times so far only grow, so the first entry above a time is searched for; only when one above it was dropped are
-- the rest walked through.
local function first_above(time)
  local low, high = r.eseq, r.seq
  if r.dropped > time then return low end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = entry(log, middle + 1)
    if not at then error({ err = 'CORRUPT a log has a hole' }) end
    if math.max(at.top, at.time) > time then high = middle else low = middle + 1 end
  end
  return low
end

local function page_of_time(time)
  local from, from_tag, left = nil, nil, false
  if r.max > time then
    walk(first_above(time), function(seq, head, blob)
      local at = header(head)
      if at.time <= time then return end
      if not from then from, from_tag = seq - 1, at.prev end
      if add(seq, head, blob) == false then
        left = true
        return false
      end
    end)
  end
  reply[4], reply[5], reply[7] = num(from or r.seq), num(from_tag or r.tag), left and '1' or '0'
end

local how = ARGV[6]
if how == 'after' then
  local epoch, seq, tag = ARGV[7], tonumber(ARGV[8]), ARGV[9]
  local from = r.eseq
  if epoch == r.epoch and seq >= r.eseq and seq <= r.seq then
    local there = tag_at(seq)
    reply[6] = there and num(there) or ''
    if reply[6] == tag then from = seq end
  end
  page(from)
elseif how == 'latest' then
  page(r.seq)
elseif how == 'last' then
  page(math.max(r.eseq, r.seq - tonumber(ARGV[7])))
elseif how == 'time' then
  page_of_time(tonumber(ARGV[7]))
else
  page(r.eseq)
end
return reply
