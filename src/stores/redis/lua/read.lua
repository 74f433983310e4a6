-- One consistent page, and whether the channel is due to be forgotten; writes nothing. The fields are the channel's
-- record and the floor of its bucket. ARGV[REST]: most events; then most bytes, and the start: 'earliest', 'latest',
-- 'last' n, 'time' ms, or 'after' epoch seq tag.

local name, most, most_bytes, how = string.sub(ARGV[4], 3), tonumber(ARGV[REST]), tonumber(ARGV[REST + 1]), ARGV[REST + 2]
if not known[5] then return { 'ok', '', string.format('%.0f', max(known[3] or 0, known[6] or 0)) } end

local r, it = parse(name, PREFIX .. ':log:' .. name, known[5]), nil
local length = r and r.seq - r.eseq
if not r or length ~= attempt('XLEN', r.log) or length > EVENTS * 1.125 or r.sum - r.esum > BYTES * 1.125
  or (length > 0 and r.first < max(now, r.last) - AGE * 1.125) or how == 'time' then
  it = rare(now, known)
  r = it.load(name, known[5])
  it.fit(r, max(now, r.last))
end

local log, average = r.log, (r.sum - r.esum) / max(1, r.seq - r.eseq)
local chunk = max(1, math.min(100, most, math.ceil(most_bytes / max(1, average)) + 1))
-- Where the page starts, the tag at the cursor, the time above which entries are wanted, the fetched entries, and how
-- many of these precede the page.
local from, from_tag, tag, above, got, before = r.eseq, r.etag, '', nil, nil, 0

if how == 'after' then
  local epoch, seq, claimed = ARGV[REST + 3], tonumber(ARGV[REST + 4]), ARGV[REST + 5]
  if epoch == r.epoch and seq >= r.eseq and seq <= r.seq then
    if seq == r.seq then
      tag = r.tag
    elseif seq == r.eseq then
      tag = r.etag
    else
      local id = string.format('%d-0', seq)
      got, before = call('XRANGE', log, id, string.format('%d-0', r.seq), 'COUNT', most > 0 and chunk + 1 or 1), 1
      tag = got[1] and got[1][1] == id and string.sub(got[1][2][4], 1, 4) or ''
    end
    if tag == claimed then from, from_tag = seq, tag else got, before = nil, 0 end
  end
elseif how == 'latest' then
  from, from_tag = r.seq, r.tag
elseif how == 'last' then
  from = max(r.eseq, r.seq - tonumber(ARGV[REST + 3]))
  if from > r.eseq then
    it = it or rare(now, known)
    from_tag = it.tag_at(r, from)
  end
elseif how == 'time' then
  above = tonumber(ARGV[REST + 3])
  from, from_tag = it.first_above(r, above), nil
end

local reply, at, seq, count, bytes, full = { 'ok', '', '', '', '', tag, '' }, 7, from, 0, 0, most == 0
while seq < r.seq and not full do
  got = got or call('XRANGE', log, string.format('%d-0', seq + 1), string.format('%d-0', r.seq), 'COUNT', chunk)
  if #got == before then error({ err = 'CORRUPT a log is shorter than its record says' }) end
  for nth = before + 1, #got do
    local head, event = got[nth][2][2], got[nth][2][4]
    seq = seq + 1
    if #head ~= 40 then error({ err = 'CORRUPT an entry cannot be read' }) end
    if not above or unpacked('>d', head, 17) > above then
      if not from_tag then from, from_tag = seq - 1, string.sub(head, 5, 8) end
      -- The first entry always fits.
      local size = #event + #name + 50
      full = count >= most or (count > 0 and bytes + size > most_bytes)
      if full then break end
      count, bytes = count + 1, bytes + size
      reply[at + 1], reply[at + 2], reply[at + 3], at = got[nth][1], head, event, at + 3
    end
  end
  got, before = nil, 0
end
if not from_tag then from, from_tag = r.seq, r.tag end

reply[2], reply[3] = r.cut and text_of(r) or known[5], now - r.last > REMEMBERED and 'due' or ''
reply[4], reply[5], reply[7] = string.format('%.0f', from), from_tag, above and full and '1' or '0'
return reply
