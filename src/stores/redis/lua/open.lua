-- Makes the place, unless it is there, and returns its epoch. ARGV[1]: a new epoch.

redis.call('HSETNX', KEYS[1], 'epoch', ARGV[1])
redis.call('HSETNX', KEYS[1], 'floor', '0')
return redis.call('HGET', KEYS[1], 'epoch')
