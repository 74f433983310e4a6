-- The retention is the largest of each setting among the nodes in use. The place's `keep` has a line per distinct
-- configuration: the five settings, when a node last announced them, and 1 once all keys expire as late as they
-- require.

local LEASE, LINE = 300000, '(%d+ %d+ %d+ %d+ %d+) (%d+) (%d)\n'
local said, ready, others = nil, '0', ''
if known[4] and #known[4] == #OWN + 20 and string.find(known[4], OWN, 1, true) == 1 then
  said, ready = tonumber(string.sub(known[4], #OWN + 2, -4)), string.byte(known[4], -2) == 49 and '1' or '0'
else
  for settings, stamp, done in string.gmatch(known[4] or '', LINE) do
    if settings == OWN then
      said, ready = tonumber(stamp), done
    elseif stamp + LEASE >= now then
      local events, age, bytes, forget, window = string.match(settings, '(%d+) (%d+) (%d+) (%d+) (%d+)')
      others = others .. settings .. ' ' .. stamp .. ' ' .. done .. '\n'
      EVENTS, AGE, BYTES = max(EVENTS, events), max(AGE, age), max(BYTES, bytes)
      FORGET, WINDOW = max(FORGET, forget), max(WINDOW, window)
    end
  end
end

-- How long a record outlives its last append.
local REMEMBERED = max(AGE + FORGET, WINDOW)

-- Whether it is time to announce this node's settings again.
local confirms = not said or now - said > LEASE / 4
