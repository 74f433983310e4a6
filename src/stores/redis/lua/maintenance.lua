-- What writing scripts rarely need. Creating a function costs the server as much as running a short one, so these are
-- created on demand.

local turns, names, made = KEYS[2], PREFIX .. ':names', nil

local function seldom()
  if made then return made end
  local it = {}
  made = it

  -- Makes `seq` the last id of a log, so that the next one can follow it. Servers differ in what XSETID permits; a copy
  -- without the deleted entries always works.
  function it.lower(r, seq)
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

  -- Removes the entries above the record's head, which an incomplete call left behind.
  function it.shorten(r)
    local more
    repeat
      local ids = {}
      more = call('XRANGE', r.log, id_of(r.seq + 1), '+', 'COUNT', 100)
      for nth, found in ipairs(more) do ids[nth] = found[1] end
      if #ids > 0 then call('XDEL', r.log, unpack(ids)) end
    until #more < 100
    it.lower(r, r.seq)
  end

  -- Makes a log with a surplus match its record.
  function it.mend(r)
    it.shorten(r)
    call('XTRIM', r.log, 'MINID', id_of(r.eseq + 1))
    r.surplus = false
    if call('XLEN', r.log) ~= r.seq - r.eseq then
      cut(r)
      r.gone = true
    end
  end

  -- Removes what was appended for a record that could not be written.
  function it.undo(r)
    if r.gone then return attempt('UNLINK', r.log) end
    r.seq = r.base
    try(it.shorten, r)
  end

  function it.fresh(name, epoch, seq, stamp)
    local r = { epoch, NO_TAG, 0, NO_TAG, seq, seq, -1, -1, 0, 0, stamp, stamp, 0, name, log_of(name), seq, false, false, false,
    false, false, false }
    r.gone, r.new = true, true
    return r
  end

  local function put(set, score, name)
    if of_type(attempt('ZADD', set, score, name)) then return end
    call('UNLINK', set)
    call('ZADD', set, score, name)
  end

  function it.set_turn(name, due) put(turns, num(due), name) end

  -- Adds a channel to the list, which is ordered by name.
  function it.list(name) put(names, '0', name) end

  -- Schedules the janitor's next visit to a channel.
  function it.turn(r)
    local due = r.last + REMEMBERED + 1
    if r.seq > r.eseq then due = math.min(due, r.first + AGE + math.floor(AGE / 8) + 1) end
    it.set_turn(r.name, max(due, now + math.floor(AGE / 16) + 1))
  end

  -- Forgets a channel, and returns the floor above it. The floor rises by a random step more, so that two histories
  -- that diverged in a failover do not meet again.
  function it.forget(name, seq)
    local floor, field = floor_of(name)
    floor = max(floor, seq) + tonumber(ARGV[REST])
    call('HSET', place, field, num(floor))
    call('HDEL', place, 'c:' .. name)
    call('UNLINK', log_of(name), keys_of(name, 0), keys_of(name, 1))
    of_type(attempt('ZREM', turns, name))
    of_type(attempt('ZREM', names, name))
    return floor
  end

  -- The place's `keep` with this node's settings announced anew.
  function it.keep()
    if not said or now - said > LEASE then
      ready = '0'
      for settings, _, done in string.gmatch(others, LINE) do
        local age, window = string.match(settings, '%d+ (%d+) %d+ %d+ (%d+)')
        if done == '1' and tonumber(age) >= OWN_AGE and tonumber(window) >= OWN_WINDOW then ready = '1' end
      end
    end
    return others .. OWN .. string.format(' %016.0f ', now) .. ready .. '\n'
  end

  return it
end
