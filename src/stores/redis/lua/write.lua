-- What all writing scripts share.

-- The record of a channel that will be written. If there is none or it is due, a fresh one that starts at the floor and
-- is not stored yet.
local function open(name, text, absent)
  local r = load(name, text)
  if r and r.surplus then seldom().mend(r) end
  if r and forgotten(r) then
    seldom().forget(name, r.seq)
    r = nil
  end
  return r or seldom().fresh(name, absent, floor_of(name), now)
end

-- Appends what was planned and is not `done` yet, before the record is written.
local function add(r, done)
  local log, base = r.log, r.base
  if r.gone then
    call('UNLINK', log)
    -- Left behind by a lost record.
    if r.new then call('UNLINK', keys_of(r.name, 0), keys_of(r.name, 1)) end
  end
  for nth = done + 1, r.seq - base do
    local id, head, event = id_of(base + nth), r.added[2 * nth - 1], r.added[2 * nth]
    local added = attempt('XADD', log, id, 'h', head, 'e', event)
    if type(added) == 'table' and added.err then
      -- The log remembers a higher id than that of its last entry.
      if nth > 1 then error(added) end
      seldom().lower(r, base)
      call('XADD', log, id, 'h', head, 'e', event)
    end
  end
  if r.ttl < r.last + AGE * 1.5 and r.seq > r.eseq then
    -- Frees the memory even if no node is left to trim; never before the newest entry is too old. The record states
    -- half of the actual expiry, because nodes of older versions take it for when the expiry was set.
    call('PEXPIRE', log, num(4 * AGE + 60000))
    r.ttl = r.last + 2 * AGE
  end
end

-- Trims the log to what the record says, once that is written.
local function trim(r)
  if r.eseq == r.seq then call('UNLINK', r.log) else call('XTRIM', r.log, 'MINID', id_of(r.eseq + 1)) end
end

-- A lost hint does no harm, and what was written stays written.
local function ring(bells) attempt('PUBLISH', PREFIX .. ':bell', table.concat(bells)) end
