-- Stores a task's next state by compare-and-set on its version, and announces it to the task's channels.
--
-- KEYS  task, last heartbeats, then for each channel: its index of tasks, then the output of a task that has some, then,
--       if an idempotency key was given: its key
-- ARGV  1 expected version   '0': the task must not exist; '-1': any older version may be replaced (a copy from the
--                            task's home shard)
--       2 version, 3 record, 4 frame, 5 updated at (ms), 6 ttl (s)
--       7 fingerprint, 8 idempotency ttl (s)
--       9 task id, 10 PUBLISH or SPUBLISH, 11 ttl of a task that has not ended, and of the indexes (s)
--       12 time of the producer's last heartbeat (ms; 0: no heartbeat is expected)
--      then for each channel: its pub/sub channel
-- Answer: 'ok', 1 if a pub/sub channel had a subscriber, else 0
--       | 'stale', the stored record: its version is not the expected one
--       | 'same', the record that an earlier call with this idempotency key stored
--       | 'other': an earlier call used this idempotency key with another fingerprint

local expected, version, record = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local updated_ms, fingerprint, id = tonumber(ARGV[5]), ARGV[7], ARGV[9]
local channels = #ARGV - 12
local idempotency_key = fingerprint ~= '' and KEYS[#KEYS]
local output = #KEYS - (idempotency_key and 1 or 0) > 2 + channels and KEYS[3 + channels]

local state, answer = remembered(idempotency_key, fingerprint)
if state then return { state, answer or '' } end

local stored = number_of(redis.call('HGET', KEYS[1], 'version')) or 0
if expected == -1 then
  if stored >= version then return { 'ok', 0 } end
elseif stored ~= expected then
  return { 'stale', redis.call('HGET', KEYS[1], 'record') or '' }
end

-- Read before the first write: a foreign value in an index stops the script before it has changed anything.
for i = 2, 2 + channels do redis.call('ZCARD', KEYS[i]) end
-- Heartbeats are recorded on the task's home shard only.
if expected ~= -1 and ARGV[12] ~= '0' then
  redis.call('ZADD', KEYS[2], ARGV[12], id)
  redis.call('EXPIRE', KEYS[2], ARGV[11])
elseif expected ~= -1 then
  redis.call('ZREM', KEYS[2], id)
end

redis.call('HSET', KEYS[1], 'version', version, 'record', record)
redis.call('EXPIRE', KEYS[1], ARGV[6])
if output then redis.call('EXPIRE', output, ARGV[6]) end
local watched, expired_ms = 0, redis_now_ms() - 1000 * tonumber(ARGV[11])
for i = 3, 2 + channels do
  redis.call('ZADD', KEYS[i], updated_ms, id)
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', whole(expired_ms))
  redis.call('EXPIRE', KEYS[i], ARGV[11])
  if redis.call(ARGV[10], ARGV[10 + i], '- 0 0 ' .. id .. '\n' .. ARGV[4]) > 0 then watched = 1 end
end
remember(idempotency_key, fingerprint, record, ARGV[8])
return { 'ok', watched }
