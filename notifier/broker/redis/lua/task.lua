-- Stores a task's next state by compare-and-set on its version, and announces it to the task's channels.
--
-- KEYS  task, last heartbeats, then for each channel: its index of tasks, then the output of a task that has some, then the
--       deadlines of questions while it asks, then, if an idempotency key was given: its key
-- ARGV  1 expected version   '0': the task must not exist; '-1': any older version may be replaced (a copy from the
--                            task's home shard)
--       2 version, 3 record, 4 head and 5 tail of the frame, around the counts of the output, 6 updated at (ms), 7 ttl (s)
--       8 fingerprint, 9 idempotency ttl (s)
--       10 task id, 11 PUBLISH or SPUBLISH, 12 ttl of a task that has not ended, and of the indexes (s)
--       13 time of the producer's last heartbeat (ms; 0: no heartbeat is expected)
--       14 number and 15 characters of the output when the task was read: a copy has at least these
--       16 deadline of the open question (ms; 0: none is open)
--      then for each channel: its pub/sub channel
-- Answer: 'ok', 1 if a pub/sub channel had a subscriber, else 0, number and characters of the output
--       | 'stale', the stored record: its version is not the expected one
--       | 'same', the record that an earlier call with this idempotency key stored
--       | 'other': an earlier call used this idempotency key with another fingerprint

local expected, version, record = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local updated_ms, fingerprint, id = tonumber(ARGV[6]), ARGV[8], ARGV[10]
local channels = #ARGV - 16
local idempotency_key = fingerprint ~= '' and KEYS[#KEYS]
local last = #KEYS - (idempotency_key and 1 or 0)
local asking = ARGV[16] ~= '0' and KEYS[last]
local output = last - (asking and 1 or 0) > 2 + channels and KEYS[3 + channels]

local state, answer = remembered(idempotency_key, fingerprint)
if state then return { state, answer or '' } end

local fields = redis.call('HMGET', KEYS[1], 'version', 'n', 'chars')
local stored, n, chars = number_of(fields[1]) or 0, number_of(fields[2]) or 0, number_of(fields[3]) or 0
local missed = {}
if expected == -1 then
  -- Pieces may have come to the home shard while this one was away.
  if tonumber(ARGV[14]) > n then
    n, chars = tonumber(ARGV[14]), tonumber(ARGV[15])
    missed = { 'n', whole(n), 'chars', whole(chars) }
  end
  if stored >= version then
    if missed[1] then redis.call('HSET', KEYS[1], unpack(missed)) end
    return { 'ok', 0, n, chars }
  end
elseif stored ~= expected then
  return { 'stale', redis.call('HGET', KEYS[1], 'record') or '' }
end

-- Read before the first write: a foreign value in an index stops the script before it has changed anything.
for i = 2, 2 + channels do redis.call('ZCARD', KEYS[i]) end
if asking then redis.call('ZCARD', asking) end
-- Heartbeats are recorded on the task's home shard only.
if expected ~= -1 and ARGV[13] ~= '0' then
  redis.call('ZADD', KEYS[2], ARGV[13], id)
  redis.call('EXPIRE', KEYS[2], ARGV[12])
elseif expected ~= -1 then
  redis.call('ZREM', KEYS[2], id)
end
-- Removed by the look for deadlines: a call that names an absent key is refused while its slot moves.
if asking then
  redis.call('ZADD', asking, ARGV[16], id)
  redis.call('EXPIRE', asking, ARGV[12])
end

redis.call('HSET', KEYS[1], 'version', version, 'record', record, unpack(missed))
redis.call('EXPIRE', KEYS[1], ARGV[7])
if output then redis.call('EXPIRE', output, ARGV[7]) end
local counts = n > 0 and format('{"n":%d,"chars":%d}', n, chars) or 'null'
local frame = '- 0 0 ' .. id .. '\n' .. ARGV[4] .. counts .. ARGV[5]
local watched, expired_ms = 0, redis_now_ms() - 1000 * tonumber(ARGV[12])
for i = 3, 2 + channels do
  redis.call('ZADD', KEYS[i], updated_ms, id)
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', whole(expired_ms))
  redis.call('EXPIRE', KEYS[i], ARGV[12])
  if redis.call(ARGV[11], ARGV[14 + i], frame) > 0 then watched = 1 end
end
remember(idempotency_key, fingerprint, record, ARGV[9])
return { 'ok', watched, n, chars }
