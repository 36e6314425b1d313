-- Stores one event in the history of each recipient channel and announces it: one step, all or nothing.
-- Used by the HTTP API and by the Django bridge alike.
--
-- KEYS  seq, epoch, idempotency key, floor, then for each channel: log, meta
-- ARGV  1 fresh epoch        used where the shard has none
--       2 history size       exact bound of each log (MAXLEN ~ lets short histories grow tenfold)
--       3 history ttl, s     meta lives ten times longer, so that an expired log is told from an empty one
--       4 head, 5 tail       the frame; a tail means: frame = head .. channel name as JSON .. tail
--       6 message id         '' for an event that is not a message
--       7 expires at, ms     0: never
--       8 fingerprint        '' where no idempotency key was given
--       9 idempotency ttl, s
--      10 repeat key         '-', or the word by which a stream drops what comes to it more than once
--      11 durable            '1', or '0': announce only
--      12 PUBLISH or SPUBLISH
--      then for each channel: its pub/sub channel, its name as JSON
-- Answer: state ('new', 'same', 'other'), epoch, seq, watched (0 or 1)
--
-- Announcement: '<epoch> <seq> <previous seq of this channel> <key>\n' .. frame as it goes on the wire.

local fresh, size, ttl_s = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local head, tail, message_id, expires_ms = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local fingerprint, repeat_key, durable, publish = ARGV[8], ARGV[10], ARGV[11] == '1', ARGV[12]

local state, answer = remembered(KEYS[3], fingerprint)
if state then
  local epoch, seq, watched = string.match(answer or '', '^(%S+) (%d+) (%d)$')
  return { state, epoch or '', tonumber(seq or '0'), tonumber(watched or '0') }
end

local epoch = current_epoch(KEYS[2], fresh)
local channels = (#KEYS - 4) / 2
local seq, metas, floor = 0, {}, 0

-- All keys are read before the first is written: one that holds something else stops the script while nothing is done.
if durable then
  local counter = redis.call('GET', KEYS[1])
  if counter and not number_of(counter) then return redis.error_reply('WRONGTYPE a counter that is not ours') end
  seq = redis.call('INCR', KEYS[1])
  local a, b, t = read_floor(KEYS[4])
  local newest = b or 0
  for i = 1, channels do
    local log, meta = KEYS[3 + 2 * i], redis.call('HMGET', KEYS[4 + 2 * i], 'last', 'low')
    local last, low = number_of(meta[1]), number_of(meta[2]) or 0
    local top = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    local held = top and seq_of(top[1])
    -- To a log that ends out of all order nothing could be added; the same goes for one that somebody emptied.
    if (held or 0) >= MAX_SEQ or (not held and redis.call('EXISTS', log) == 1) then
      return redis.error_reply('WRONGTYPE a log that is not ours')
    end
    if not held then
      -- All that was here is gone; without a meta it is not even known what that was.
      low = last
    elseif not last then
      -- What the log held before is unknown: everything up to its first entry counts as trimmed.
      last, low = held, seq_of(redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1][1]) - 1
    end
    newest = math.max(newest, last or 0, held or 0)
    metas[i] = { last = last or 0, low = low, length = redis.call('XLEN', log) }
  end
  if newest >= seq then
    -- The counter stepped back behind what is known of the order: a new one begins above both.
    seq, epoch = newest + 1, fresh
    redis.call('SET', KEYS[1], whole(seq))
    redis.call('SET', KEYS[2], fresh)
  end

  local now_ms, ttl_ms = redis_now_ms(), 1000 * ttl_s
  local age_ms = t and math.abs(now_ms - t) or math.huge
  floor = age_ms > 4 * ttl_ms and seq - 1 or age_ms > 2 * ttl_ms and b or a
  if age_ms > 2 * ttl_ms then
    redis.call('HSET', KEYS[4], 'a', whole(floor), 'b', whole(seq), 't', whole(now_ms))
  end
else
  seq = tonumber(redis.call('GET', KEYS[1]) or '0')
end

local shown = whole(seq)
local id_line = durable and ('id: ' .. epoch .. '-' .. shown .. '\n') or ''
local watched = 0

for i = 1, channels do
  local announce, name = ARGV[11 + 2 * i], ARGV[12 + 2 * i]
  local frame = tail == '' and head or (head .. name .. tail)
  local prev = 0
  if durable then
    local log, meta_key, meta = KEYS[3 + 2 * i], KEYS[4 + 2 * i], metas[i]
    local low, length = meta.low or floor, meta.length
    if length >= size then
      local going = redis.call('XRANGE', log, '-', '+', 'COUNT', length - size + 1)
      low = seq_of(going[#going][1])
    end
    local entry = { 'XADD', log, 'MAXLEN', size, shown .. '-0', 'f', frame }
    if message_id ~= '' then entry[#entry + 1] = 'm'; entry[#entry + 1] = message_id end
    if expires_ms ~= '0' then entry[#entry + 1] = 'x'; entry[#entry + 1] = expires_ms end
    if repeat_key ~= '-' then entry[#entry + 1] = 'k'; entry[#entry + 1] = repeat_key end
    redis.call(unpack(entry))
    redis.call('EXPIRE', log, ttl_s)
    redis.call('HSET', meta_key, 'last', shown, 'low', whole(low))
    redis.call('EXPIRE', meta_key, ttl_s * 10)
    prev = meta.last
  end
  local lead = epoch .. ' ' .. (durable and shown or '0') .. ' ' .. whole(prev) .. ' ' .. repeat_key .. '\n'
  if redis.call(publish, announce, lead .. id_line .. frame) > 0 then watched = 1 end
end

remember(KEYS[3], fingerprint, epoch .. ' ' .. shown .. ' ' .. watched, ARGV[9])
return { 'new', epoch, seq, watched }
