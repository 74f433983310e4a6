-- Creates the place unless it exists, or upgrades it to the format of this version; returns its stored epoch and
-- format. ARGV[1]: a new epoch, as stored; ARGV[2]: its prefix; ARGV[3]: the format.
--
-- The first format had no version, and its epoch no prefix. Its nodes know one floor for all channels, and cannot parse
-- an epoch with a prefix: so they fail from now on, instead of using a floor that is too low.

local epoch, format = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'format'))
if not epoch then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'format', ARGV[3])
elseif not format then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[2] .. epoch, 'format', ARGV[3])
else
  -- Shows that the server takes writes.
  redis.call('HSET', KEYS[1], 'format', format)
end
return redis.call('HMGET', KEYS[1], 'epoch', 'format')
