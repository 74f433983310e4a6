-- Appends several groups, each to one channel and each as a whole or not at all. ARGV[REST]: the floor's step. Then the
-- groups, each packed: the index of the channel, the number of events, flags (1: closes the channel, 2: some event has
-- a key, 4: has an expectation), the epoch while absent; then the expectation if there is one; the events; and if any
-- has a key, all their keys ('' for none) and the fingerprints of all, 8 bytes each, as one text.
--
-- A group is planned before anything of its channel is written. Planning does write what was due anyway: it makes a log
-- match its record, and forgets a channel that is due. A problem with one channel fails its own groups only: 'X' and
-- the reason if nothing of them was done, 'U' and the reason if that is unknown.

local RECEIPT, ARGV = 20, ARGV
local records, failed, acting, at, it, keyed = {}, {}, {}, REST + 1, nil, nil
-- The replies, and the channel of each.
local replies, of, reply = { 'ok' }, { 0 }, 1
-- The parts of the hints, how many bytes of them belong to no message yet, and where messages end.
local bells, parts, weight, ends = {}, 0, 0, {}

while ARGV[at] do
  local batch, closes, expect, keys, prints, fine = ARGV[at], false, nil, nil, nil, nil
  local nth, count, flags = unpacked('>HI4B', batch)
  local r, events = records[nth], at + 1
  if flags >= 4 then expect, events = ARGV[events], events + 1 end
  at = events + count
  if flags > 0 then
    closes = flags % 2 == 1
    if flags % 4 >= 2 then keys, prints, at = at, ARGV[at + count], at + count + 1 end
  end

  if r == nil then
    local name, text = string.sub(ARGV[3 + nth], 3), known[4 + nth]
    r = text and parse(name, PREFIX .. ':log:' .. name, text)
    if not r or r.seq - r.eseq ~= attempt('XLEN', r.log) or now - r.last > REMEMBERED then
      it = it or rare(now, known)
      fine, r = try(it.open, name, text, string.sub(batch, 8))
      if not fine then failed[nth], r = 'X' .. it.reason(r), false end
    end
    if r then r.nth = nth end
    records[nth] = r
  end

  local stamp, acts, receipts, answer = r and r.last > now and r.last or now, true, nil, r and '' or 'X'
  if r and (flags > 0 or count == 0 or r.closed == 1) then
    keyed = keyed or judge(PREFIX, WINDOW, RECEIPT, now, head_of, holds)
    fine, answer, acts, receipts = try(keyed.judge, r, stamp, expect, closes, count, keys, prints)
    if not fine then
      it = it or rare(now, known)
      failed[nth], records[nth] = 'X' .. it.reason(answer), false
    end
  end

  if answer == '' then
    local name, seq, sum, first = r.name, r.seq, r.sum, parts + 1
    local before = pack('>c1c16dc4', 'E', r.epoch, seq, r.tag)
    bells[first], bells[first + 1], bells[first + 2] = before, '', name
    if not receipts then
      if count > 0 then push(r, stamp, events, events + count - 1, bells, parts + 3) end
      if keys then keyed.note(r, stamp, seq, count, keys, prints, 0) end
    else
      for i = events, events + count - 1 do
        local key = ARGV[keys + i - events]
        if receipts[key] then
          answer = answer .. pack('>I4', i - events) .. string.sub(receipts[key], 1, RECEIPT)
        else
          push(r, stamp, i, i, bells, parts + 3 + 2 * (r.seq - seq))
          keyed.note(r, stamp, r.seq - 1, 1, keys, prints, i - events)
        end
      end
    end
    local added, size = r.seq - seq, r.sum - sum
    local fits = size - added * (#name + 50) <= INLINE
    if added > 0 and fits then
      bells[first + 1], parts = pack('>BI4H', 0, added, #name), parts + 3 + 2 * added
    else
      for nth = parts + 3 + 2 * added, first, -1 do bells[nth] = nil end
    end
    closes = closes and acts and r.closed == 0
    if closes then r.closed = 1 end
    if closes or not fits then
      bells[parts + 1], bells[parts + 2], parts = hint_of(r), name, parts + 2
    end
    -- Lua joins texts in pieces of 8 KiB, and hashes a longer one twice.
    if weight > 0 and weight + size > 7500 and parts >= first then ends[#ends + 1], weight = first - 1, 0 end
    if parts >= first then weight = weight + size + 100 end
    if acts and not r.acts then acting[#acting + 1], r.acts = r, true end
    answer = before .. pack('>Bd', r.closed, stamp) .. answer
  end
  reply = reply + 1
  of[reply], replies[reply] = nth, answer
end

-- Planning is over: from here on, everything is written.
local writes, rest, most, most_bytes, lasting = {}, false, EVENTS * 1.125, BYTES * 1.125, AGE * 1.125
for i = 1, #acting do
  local r, done = acting[i], 0
  local nth, log, base, left, added = r.nth, r.log, r.base, r.seq - r.base, r.added
  local fine, problem = not failed[nth], nil
  if fine and (r.seq - r.eseq > most or r.sum - r.esum > most_bytes or r.first < r.last - lasting) then
    it = it or rare(now, known)
    fine, problem = try(it.fit, r, max(now, r.last))
    if not fine then failed[nth] = 'X' .. it.reason(problem) end
  end
  if fine then
    local usual = not r.gone and r.ttl >= r.last + AGE * 1.5
    while usual and done < left do
      local id, at = string.format('%d-0', base + done + 1), 2 * done
      usual = attempt('XADD', log, id, 'h', added[at + 1], 'e', added[at + 2]) == id
      if usual then done = done + 1 end
    end
    if not usual then
      it = it or rare(now, known)
      fine, problem = try(it.add, r, done)
      if not fine then
        failed[nth] = 'U' .. it.reason(problem)
        it.seldom().undo(r)
      end
    end
    if fine then
      local at = #writes
      writes[at + 1], writes[at + 2] = ARGV[3 + nth], text_of(r)
      rest = rest or r.cut or r.remember or r.new
    end
  end
end
if #writes > 0 then
  if confirms then
    it = it or rare(now, known)
    writes[#writes + 1], writes[#writes + 2] = 'keep', it.seldom().keep()
  end
  local written = attempt('HSET', place, unpack(writes))
  local fine = type(written) == 'number'
  for i = 1, fine and not rest and 0 or #acting do
    local r = acting[i]
    if not fine and not failed[r.nth] then
      it = it or rare(now, known)
      it.seldom().undo(r)
      failed[r.nth] = 'U' .. it.reason(written)
    elseif not failed[r.nth] then
      if r.cut then try(it.trim, r) end
      if r.remember then try(keyed.remember, r) end
      if r.new then
        try(it.seldom().turn, r)
        try(it.seldom().list, r.name)
      end
    end
  end
elseif WAITS then
  -- WAIT only covers writes of this connection, but the duplicates acknowledged here may have been written by another.
  call('HSET', place, 'epoch', ARGV[1])
end
if next(failed) then
  -- Replies of failed groups are replaced, and hints of the others shrink to their heads.
  for reply, nth in pairs(of) do replies[reply] = failed[nth] or replies[reply] end
  bells, parts, ends = {}, 0, {}
  for i = 1, #acting do
    local r = acting[i]
    if not failed[r.nth] then bells[parts + 1], bells[parts + 2], parts = hint_of(r), r.name, parts + 2 end
  end
end
if parts > 0 then
  ends[#ends + 1] = parts
  for i = 1, #ends do
    attempt('PUBLISH', PREFIX .. ':bell', table.concat(bells, '', (ends[i - 1] or 0) + 1, ends[i]))
  end
end
return replies
