-- One consistent page, and whether the channel's time to be forgotten has come; writes nothing. ARGV[REST]: most events; then most bytes, and how to start: 'earliest', 'latest',
-- 'last' n, 'time' ms, or 'after' epoch seq tag.

local name, most, most_bytes = name_of(ARGV[4]), tonumber(ARGV[REST]), tonumber(ARGV[REST + 1])
local r = load(name, stored(1))
if not r then
  local floor = floor_of(name)
  return { 'ok', '', num(floor) }
end
fit(r, max(now, r.last))

local reply = { 'ok', text_of(r), forgotten(r) and 'due' or '', '', '', '', '' }
local average = (r.sum - r.esum) / max(1, r.seq - r.eseq)
local chunk = max(1, math.min(100, most, math.ceil(most_bytes / max(1, average)) + 1))

local function tag_at(seq)
  if seq == r.seq then return r.tag end
  if seq == r.eseq then return r.etag end
  local there, event = entry(r, seq)
  return there and string.sub(event, 1, 4)
end

-- Calls `take` with each entry above `seq` until it returns false.
local function walk(seq, take)
  while seq < r.seq do
    local got = call('XRANGE', r.log, id_of(seq + 1), id_of(r.seq), 'COUNT', chunk)
    if #got == 0 then corrupt('a log is shorter than its record says') end
    for _, found in ipairs(got) do
      seq = seq + 1
      if found[1] ~= id_of(seq) then corrupt('a log has a hole') end
      if take(seq, found[2][2], found[2][4]) == false then return end
    end
  end
end

local count, bytes = 0, 0
-- Takes an entry if it fits; the first always does.
local function add(seq, head, blob)
  local size = #blob + #name + 50
  if count >= most or (count > 0 and bytes + size > most_bytes) then return false end
  count, bytes = count + 1, bytes + size
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = num(seq), head, blob
end

local function page(seq)
  reply[4], reply[5] = num(seq), tag_at(seq) or NO_TAG
  if most > 0 then walk(seq, add) end
end

-- Largest times so far only grow, so the first entry above a time is searched for; only when one above it was dropped are
-- the rest walked through.
local function first_above(time)
  local low, high = r.eseq, r.seq
  if r.dropped > time then return low end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = entry(r, middle + 1)
    if not at then corrupt('a log has a hole') end
    if max(at.top, at.time) > time then high = middle else low = middle + 1 end
  end
  return low
end

local function page_of_time(time)
  local from, from_tag, left = nil, nil, false
  if r.top > time then
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
  reply[4], reply[5], reply[7] = num(from or r.seq), from_tag or r.tag, left and '1' or '0'
end

local how = ARGV[REST + 2]
if how == 'after' then
  local epoch, seq, tag = ARGV[REST + 3], tonumber(ARGV[REST + 4]), ARGV[REST + 5]
  local from = r.eseq
  if epoch == r.epoch and seq >= r.eseq and seq <= r.seq then
    local there = tag_at(seq)
    reply[6] = there or ''
    if reply[6] == tag then from = seq end
  end
  page(from)
elseif how == 'latest' then
  page(r.seq)
elseif how == 'last' then
  page(max(r.eseq, r.seq - tonumber(ARGV[REST + 3])))
elseif how == 'time' then
  page_of_time(tonumber(ARGV[REST + 3]))
else
  page(r.eseq)
end
return reply
