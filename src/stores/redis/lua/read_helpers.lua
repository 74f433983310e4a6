-- What a read rarely needs.

local function tag_at(r, seq)
  if seq == r.seq then return r.tag end
  if seq == r.eseq then return r.etag end
  local there, event = entry(r, seq)
  return there and string.sub(event, 1, 4) or NO_TAG
end

-- The largest time so far never decreases, so the first entry above a time is found by bisection; a walk is needed only
-- when an entry above it was dropped.
local function first_above(r, time)
  if r.top <= time then return r.seq end
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

return { load = load, fit = fit, tag_at = tag_at, first_above = first_above }
