-- Functions that several scripts use; prepended to each script. Each costs a publish 0.05 us, so those that only other
-- scripts use are in reading.lua.
-- Numbers are written with %d: Lua 5.1 writes 10^14 and above as 1e+14, and formats others slowly.

local call = redis.call
local format, match = string.format, string.match
local function whole(n) return format('%d', n) end

-- For a known idempotency key: 'same' or 'other' (fingerprint), and the stored answer. nil for a new key.
local function remembered(key, fingerprint)
  if fingerprint == '' then return nil end
  local known = call('HMGET', key, 'fingerprint', 'answer')
  if not known[1] then return nil end
  return known[1] == fingerprint and 'same' or 'other', known[2]
end

local function remember(key, fingerprint, answer, ttl_s)
  if fingerprint == '' then return end
  call('HSET', key, 'fingerprint', fingerprint, 'answer', answer)
  call('EXPIRE', key, ttl_s)
end

local function is_epoch(text) return text and #text <= 32 and match(text, '^[a-z0-9]+$') ~= nil end

-- The epoch of this shard. `fresh` becomes the epoch if none is stored (first use, wiped data) or a foreign value is.
local function current_epoch(key, fresh)
  local epoch = call('GET', key)
  if is_epoch(epoch) then return epoch end
  call('SET', key, fresh)
  return fresh
end

-- A number as notifier writes it, otherwise nil. It stays below 2^53, up to which a double holds every whole number.
local MAX_SEQ = 1e15
local function number_of(text)
  return text and #text <= 15 and match(text, '^%d+$') and tonumber(text) or nil
end

-- A shard's counter, 0 before the first event. nil for a foreign value: the script then answers foreign_counter(), the
-- service quarantines the key and runs the script again.
local function foreign_counter() return redis.error_reply('WRONGTYPE a foreign counter') end
local function counter_of(key)
  local text = call('GET', key)
  return text and number_of(text) or (not text and 0 or nil)
end

local function redis_now_ms()
  local now = call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Shard floor: where a channel has no meta, cursors below `a` are reset. `b`: next floor, recorded at `t` ms.
-- A meta expires ten history ttls after the channel's last event. Every event after `a` is less than eight ttls old, so
-- a channel without a meta had none of them.
local function read_floor(key)
  local fields = call('HMGET', key, 'a', 'b', 't')
  local a, b, t = number_of(fields[1]), number_of(fields[2]), number_of(fields[3])
  if a and b and t then return a, b, t end
end

-- The metas of topics expire with their logs, so topics have a floor of their own, of their events only. `newest` is the
-- newest of these; `b` was it at `b_ms`, `a` at `a_ms` before that.
local function read_topic_floor(key)
  local fields = call('HMGET', key, 'ta', 'tb', 'tn', 'tat', 'tbt')
  local a, b, newest = number_of(fields[1]), number_of(fields[2]), number_of(fields[3])
  local a_ms, b_ms = number_of(fields[4]), number_of(fields[5])
  if a and b and newest and a_ms and b_ms then return { a = a, b = b, newest = newest, a_ms = a_ms, b_ms = b_ms } end
end

-- The newest seq that may have expired. Events after it are younger than the ttl.
local function floor_of_topics(topic_floor, now_ms, ttl_s)
  local since_ms = now_ms - 1000 * ttl_s
  if topic_floor.a_ms > since_ms then return topic_floor.a end
  return topic_floor.b_ms > since_ms and topic_floor.b or topic_floor.newest
end

-- What is known of a channel, nil without a meta: last (its newest seq), m and e (newest seq among its messages and its
-- events), mlow and elow (newest seq trimmed from either). All five are in the field `logs`. `messages` is the key of the
-- channel's messages.
--
-- Version 0.1.0 has one log for both, and reads and writes only the fields `last` and `low`. They are written for it:
-- `low` covers all events, which 0.1.0 does not see. What 0.1.0 wrote is recognised: a `last` that `logs` does not have is
-- that of an entry among the messages, a `low` that is not `e` that of a trimmed message.
local function meta_of(key, messages)
  local fields = call('HMGET', key, 'last', 'low', 'logs')
  local last, low = number_of(fields[1]), number_of(fields[2]) or 0
  if not last then return nil end
  local known, m, e, mlow, elow = match(fields[3] or '', '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not known then return { last = last, m = last, e = 0, mlow = low, elow = 0 } end
  local meta = { last = last, m = tonumber(m), e = tonumber(e), mlow = tonumber(mlow), elow = tonumber(elow) }
  if tonumber(known) ~= last then
    -- 0.1.0 does not record that the messages before had expired: the log shows if the newest of them is left.
    local before = whole(meta.m) .. '-0'
    if meta.m > meta.mlow and not call('XRANGE', messages, before, before)[1] then meta.mlow = meta.m end
    meta.m = last
  end
  if low ~= meta.e then meta.mlow = math.max(meta.mlow, low) end
  return meta
end

local function logs_of(meta) return format('%d %d %d %d %d', meta.last, meta.m, meta.e, meta.mlow, meta.elow) end

-- The field `gone` has another value after each message that left the log otherwise than by trimming.
local function store_meta(key, meta, ttl_s)
  local last, low = whole(meta.last), whole(math.max(meta.mlow, meta.e))
  call('HSET', key, 'last', last, 'low', low, 'logs', logs_of(meta))
  call('EXPIRE', key, ttl_s)
end

local function seq_of(entry_id) return tonumber(match(entry_id, '^%d+')) end

-- Seq of the newest entry of a log; nil if it is empty.
local function newest_in(log)
  local raw = call('XREVRANGE', log, '+', '-', 'COUNT', '1')[1]
  return raw and seq_of(raw[1])
end
