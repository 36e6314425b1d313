-- Stores one event in the history of each recipient channel and announces it, in one step, all or nothing.
-- Used by the HTTP API and by the Django bridge alike.
--
-- KEYS  seq, epoch, idempotency key, floor, then for each channel: its messages, its events, its meta,
--       then, for a later chunk of a publish: the idempotency key of the first
-- ARGV  1 fresh epoch        used if the shard has none
--       2 history size       exact bound of the log (MAXLEN ~ lets short histories grow tenfold)
--       3 history ttl, s     the meta lives ten times longer: it tells an expired log from one that never had events
--       4 head, 5 tail       the frame; a tail means: frame = head .. channel name as JSON .. tail
--       6 message id         '' for an event that is not a message: it is stored with the channel's events
--       7 expires at, ms     0: never
--       8 fingerprint        '' if no idempotency key was given
--       9 idempotency ttl, s
--      10 repeat key         '-', or the key by which a stream drops the event if it comes again
--      11 durable            '1', or '0': announce only
--      12 PUBLISH or SPUBLISH
--      then for each channel: its pub/sub channel, its name as JSON
-- Answer: state ('new', 'same', 'other'), epoch, seq, watched (0 or 1)
--
-- Announcement: '<epoch> <seq> <previous seq of this channel> <repeat key>\n' .. the event as it goes on the wire.

local fresh, size, ttl_s = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local head, tail, message_id, expires_ms = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local fingerprint, repeat_key, durable, publish = ARGV[8], ARGV[10], ARGV[11] == '1', ARGV[12]

local channels = math.floor((#KEYS - 4) / 3)
local state, answer = remembered(KEYS[3], fingerprint)
-- A call with another body may have had fewer chunks.
if not state and #KEYS > 4 + 3 * channels and remembered(KEYS[#KEYS], fingerprint) == 'other' then state = 'other' end
if state then
  local epoch, seq, watched = string.match(answer or '', '^(%S+) (%d+) (%d)$')
  return { state, epoch or '', tonumber(seq or '0'), tonumber(watched or '0') }
end

local epoch = current_epoch(KEYS[2], fresh)
local is_message = message_id ~= ''
local newest_field, low_field = is_message and 'm' or 'e', is_message and 'mlow' or 'elow'
local seq, metas, floor = 0, {}, 0

local function log_of(i) return KEYS[(is_message and 2 or 3) + 3 * i] end

-- What is known of a channel before this event; nil where its log is foreign.
local function state_of(i)
  local log, meta = log_of(i), meta_of(KEYS[4 + 3 * i], KEYS[2 + 3 * i])
  local length = redis.call('XLEN', log)
  -- An entry that is not below this seq is foreign: nothing can be added after it. Nor to an emptied log, which
  -- remembers its last id, nor after an id that is too high.
  local ahead = redis.call('XREVRANGE', log, '+', whole(seq) .. '-0', 'COUNT', 1)[1]
  local foreign = ahead and seq_of(ahead[1]) or 0
  if foreign >= MAX_SEQ or (length == 0 and redis.call('EXISTS', log) == 1) then return nil end
  if not meta then
    -- A new channel, or one whose meta is lost: everything before this event counts as trimmed.
    local m, e = newest_in(KEYS[2 + 3 * i]) or 0, newest_in(KEYS[3 + 3 * i]) or 0
    local low = (m > 0 or e > 0) and seq - 1 or floor
    meta = { last = math.max(m, e), m = m, e = e, mlow = low, elow = low }
  elseif length == 0 then
    -- The log expired: everything in it counts as trimmed.
    meta[low_field] = math.max(meta[low_field], meta[newest_field])
  end
  meta.last = math.max(meta.last, foreign)
  meta.length = length
  return meta
end

-- The channels' keys are read before the first is written: a foreign value stops the script before it stores anything.
if durable then
  seq = redis.pcall('INCR', KEYS[1])
  if type(seq) ~= 'number' or seq < 1 or seq >= MAX_SEQ then return foreign_counter() end
  local a, b, t = read_floor(KEYS[4])
  local now_ms, ttl_ms = redis_now_ms(), 1000 * ttl_s
  local age_ms = t and math.abs(now_ms - t) or math.huge
  floor = age_ms > 4 * ttl_ms and seq - 1 or age_ms > 2 * ttl_ms and b or a
  local newest = b or 0
  for i = 1, channels do
    metas[i] = state_of(i)
    if not metas[i] then return redis.error_reply('WRONGTYPE a foreign log') end
    newest = math.max(newest, metas[i].last)
  end
  if newest >= seq then
    -- The counter is behind the channels (it was overwritten or lost): a new epoch begins above both.
    seq, epoch = newest + 1, fresh
    redis.call('SET', KEYS[1], whole(seq))
    redis.call('SET', KEYS[2], fresh)
  end

  if age_ms > 2 * ttl_ms then
    redis.call('HSET', KEYS[4], 'a', whole(floor), 'b', whole(seq), 't', whole(now_ms))
  end
else
  seq = counter_of(KEYS[1])
  if not seq then return foreign_counter() end
end

local shown = whole(seq)
local id_line = durable and ('id: ' .. epoch .. '-' .. shown .. '\n') or ''
local watched = 0

for i = 1, channels do
  local announce, name = ARGV[11 + 2 * i], ARGV[12 + 2 * i]
  local frame = tail == '' and head or (head .. name .. tail)
  local prev = 0
  if durable then
    local log, meta = log_of(i), metas[i]
    if meta.length >= size then
      local trimmed = redis.call('XRANGE', log, '-', '+', 'COUNT', meta.length - size + 1)
      meta[low_field] = seq_of(trimmed[#trimmed][1])
    end
    local entry = { 'XADD', log, 'MAXLEN', size, shown .. '-0', 'f', frame }
    if is_message then entry[#entry + 1] = 'm'; entry[#entry + 1] = message_id end
    if expires_ms ~= '0' then entry[#entry + 1] = 'x'; entry[#entry + 1] = expires_ms end
    if repeat_key ~= '-' then entry[#entry + 1] = 'k'; entry[#entry + 1] = repeat_key end
    redis.call(unpack(entry))
    redis.call('EXPIRE', log, ttl_s)
    prev, meta.last, meta[newest_field] = meta.last, seq, seq
    store_meta(KEYS[4 + 3 * i], meta, ttl_s * 10)
  end
  local lead = epoch .. ' ' .. (durable and shown or '0') .. ' ' .. whole(prev) .. ' ' .. repeat_key .. '\n'
  if redis.call(publish, announce, lead .. id_line .. frame) > 0 then watched = 1 end
end

remember(KEYS[3], fingerprint, epoch .. ' ' .. shown .. ' ' .. watched, ARGV[9])
return { 'new', epoch, seq, watched }
