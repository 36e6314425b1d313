-- Functions that several scripts use; prepended to each script.
-- Numbers are written with %.0f: Lua 5.1 writes 10^14 and above as 1e+14.

local function whole(n) return string.format('%.0f', n) end

-- For a known idempotency key: 'same' or 'other' (fingerprint), and the stored answer. nil for a new key.
local function remembered(key, fingerprint)
  if fingerprint == '' then return nil end
  local known = redis.call('HMGET', key, 'fingerprint', 'answer')
  if not known[1] then return nil end
  return known[1] == fingerprint and 'same' or 'other', known[2]
end

local function remember(key, fingerprint, answer, ttl_s)
  if fingerprint == '' then return end
  redis.call('HSET', key, 'fingerprint', fingerprint, 'answer', answer)
  redis.call('EXPIRE', key, ttl_s)
end

local function is_epoch(text) return text and #text <= 32 and string.match(text, '^[a-z0-9]+$') ~= nil end

-- The epoch of this shard. `fresh` becomes the epoch if none is stored (first use, wiped data) or a foreign value is.
local function current_epoch(key, fresh)
  local epoch = redis.call('GET', key)
  if is_epoch(epoch) then return epoch end
  redis.call('SET', key, fresh)
  return fresh
end

-- A number as notifier writes it, otherwise nil. It stays below 2^53, up to which a double holds every whole number.
local MAX_SEQ = 1e15
local function number_of(text)
  return text and #text <= 15 and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- A shard's counter, 0 before the first event. nil for a foreign value: the script then answers foreign_counter(), the
-- service quarantines the key and runs the script again.
local function foreign_counter() return redis.error_reply('WRONGTYPE a foreign counter') end
local function counter_of(key)
  local text = redis.call('GET', key)
  return text and number_of(text) or (not text and 0 or nil)
end

-- Renames a key with a foreign value, so that its name can be used again.
local function quarantine(key)
  redis.call('RENAME', key, key .. ':foreign')
  redis.call('EXPIRE', key .. ':foreign', 86400)
end

-- The record of a task, or false. The key is not in KEYS, so the service cannot quarantine it: the script does.
local function record_of(key)
  local record = redis.pcall('HGET', key, 'record')
  if type(record) ~= 'table' then return record end
  redis.log(redis.LOG_WARNING, 'notifier: quarantined the foreign value of ' .. key)
  quarantine(key)
  return false
end

local function redis_now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Shard floor: where a channel has no meta, cursors below `a` are reset. `b`: next floor, recorded at `t` ms.
-- A meta expires ten history ttls after the channel's last event. Every event after `a` is less than eight ttls old, so
-- a channel without a meta had none of them.
local function read_floor(key)
  local fields = redis.call('HMGET', key, 'a', 'b', 't')
  local a, b, t = number_of(fields[1]), number_of(fields[2]), number_of(fields[3])
  if a and b and t then return a, b, t end
end

-- What is known of a channel, nil without a meta: last (its newest seq), m and e (newest seq among its messages and its
-- events), mlow and elow (newest seq trimmed from either). All five are in the field `logs`. `messages` is the key of the
-- channel's messages.
--
-- Version 0.1.0 has one log for both, and reads and writes only the fields `last` and `low`. They are written for it:
-- `low` covers all events, which 0.1.0 does not see. What 0.1.0 wrote is recognised: a `last` that `logs` does not have is
-- that of an entry among the messages, a `low` that is not `e` that of a trimmed message.
local function meta_of(key, messages)
  local fields = redis.call('HMGET', key, 'last', 'low', 'logs')
  local last, low = number_of(fields[1]), number_of(fields[2]) or 0
  if not last then return nil end
  local known, m, e, mlow, elow = string.match(fields[3] or '', '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not known then return { last = last, m = last, e = 0, mlow = low, elow = 0 } end
  local meta = { last = last, m = tonumber(m), e = tonumber(e), mlow = tonumber(mlow), elow = tonumber(elow) }
  if tonumber(known) ~= last then
    -- 0.1.0 does not record that the messages before had expired: the log shows if the newest of them is left.
    local before = whole(meta.m) .. '-0'
    if meta.m > meta.mlow and not redis.call('XRANGE', messages, before, before)[1] then meta.mlow = meta.m end
    meta.m = last
  end
  if low ~= meta.e then meta.mlow = math.max(meta.mlow, low) end
  return meta
end

local function store_meta(key, meta, ttl_s)
  local last, low = whole(meta.last), whole(math.max(meta.mlow, meta.e))
  local logs = string.format('%d %d %d %d %d', meta.last, meta.m, meta.e, meta.mlow, meta.elow)
  redis.call('HSET', key, 'last', last, 'low', low, 'logs', logs)
  redis.call('EXPIRE', key, ttl_s)
end

local function seq_of(entry_id) return tonumber(string.match(entry_id, '^%d+')) end

-- A history entry as a table: seq, f (frame), m (message id), x (expiry in ms), k (repeat key). A foreign entry may
-- lack any field.
local function entry_of(raw)
  local entry = { seq = seq_of(raw[1]) }
  local fields = raw[2]
  for i = 1, #fields, 2 do entry[fields[i]] = fields[i + 1] end
  return entry
end

-- Seq of the newest entry of a log; nil if it is empty.
local function newest_in(log)
  local raw = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  return raw and seq_of(raw[1])
end

-- The entries after a seq: all, or the first `most` of them.
local function entries_after(log, after, most)
  local call = { 'XRANGE', log, whole(after + 1) .. '-0', '+' }
  if most then call[5], call[6] = 'COUNT', most end
  local entries = redis.call(unpack(call))
  for i, raw in ipairs(entries) do entries[i] = entry_of(raw) end
  return entries
end

local function expired(entry, now_ms)
  local at = tonumber(entry.x)
  return at ~= nil and at <= now_ms
end

-- A function that says if an id is in a sorted set. After 50 lookups it reads the whole set: single lookups took most
-- of the time of a long inbox.
local function members_of(key)
  local lookups, all = 0, nil
  return function(id)
    if all then return all[id] == true end
    lookups = lookups + 1
    if lookups > 50 then
      all = {}
      for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do all[member] = true end
      return all[id] == true
    end
    return redis.call('ZSCORE', key, id) ~= false
  end
end

-- Calls visit(entry, is_read) once for each message that the user can see. A message to several channels is in several
-- logs under one id; it is visited once.
local READ_UP_TO = '*'
local function read_up_to(read_key) return tonumber(redis.call('ZSCORE', read_key, READ_UP_TO) or '0') end

local function each_message(lists, read_key, hidden_key, now_ms, visit)
  local up_to = read_up_to(read_key)
  local is_hidden, is_marked, seen = members_of(hidden_key), members_of(read_key), {}
  for _, entries in ipairs(lists) do
    for _, entry in ipairs(entries) do
      local id = entry.m
      if id and not seen[id] and not expired(entry, now_ms) then
        seen[id] = true
        if not is_hidden(id) then visit(entry, entry.seq <= up_to or is_marked(id)) end
      end
    end
  end
end

-- `lists` may lack the entries up to READ_UP_TO: they are read.
local function count_unread(lists, read_key, hidden_key, now_ms)
  local unread = 0
  each_message(lists, read_key, hidden_key, now_ms, function(_, is_read)
    if not is_read then unread = unread + 1 end
  end)
  return unread
end

-- Records of the tasks of these channels without those that the user dismissed, for each channel last changed first.
-- Ids of expired tasks are removed from the index, and the next ones are read in their place, in a few steps.
local function snapshot_tasks(indexes, task_prefix, hidden_key, max)
  local records, seen = {}, {}
  for _, index in ipairs(indexes) do
    local kept = 0
    for _ = 1, 5 do
      local ids = redis.call('ZREVRANGE', index, kept, max - 1)
      for _, id in ipairs(ids) do
        local record = seen[id] or record_of(task_prefix .. id)
        if not record then
          redis.call('ZREM', index, id)
        else
          kept = kept + 1
          if not seen[id] and not redis.call('ZSCORE', hidden_key, 't:' .. id) then
            records[#records + 1] = record
          end
          seen[id] = true
        end
      end
      if #ids == 0 or kept == max then break end
    end
  end
  return records
end
