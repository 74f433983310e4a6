-- Makes the place, unless it is there, or brings it to the format of this version, and returns its epoch as it is stored and
-- its format. ARGV[1]: a new epoch, as it is stored; ARGV[2]: what that begins with; ARGV[3]: the format.
--
-- The first format had no version, and an epoch that began with nothing. Its nodes know one floor for all channels, and do not
-- understand an epoch that begins with something: so they fail from now on, instead of taking a lower floor for the true one.

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
