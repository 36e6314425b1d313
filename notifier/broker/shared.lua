-- Functions that several scripts use; put before each of them when it is loaded.
-- Numbers are written with %.0f: Lua 5.1 would turn 10^14 and above into 1e+14.

local function whole(n) return string.format('%.0f', n) end

-- An idempotency key that is known: its state ('same' or 'other') and the answer that was kept; nil where it is new.
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

-- The epoch of this shard; `fresh` becomes the epoch where none is kept (first use, or the data was wiped).
local function current_epoch(key, fresh)
  local epoch = redis.call('GET', key)
  if epoch then return epoch end
  redis.call('SET', key, fresh)
  return fresh
end

local function seq_of(entry_id) return tonumber(string.match(entry_id, '^%d+')) end

-- One history entry as a table: seq, f (frame), m (message id), x (expiry in ms). Written by others: any may be absent.
local function entry_of(raw)
  local entry = { seq = seq_of(raw[1]) }
  local fields = raw[2]
  for i = 1, #fields, 2 do entry[fields[i]] = fields[i + 1] end
  return entry
end

local function expired(entry, now_ms)
  local at = tonumber(entry.x)
  return at ~= nil and at <= now_ms
end

-- Calls visit(entry, is_read) once for each message that the user can see after `after`, over all logs.
-- A message that came over several channels has one seq and one id: it is visited once.
local READ_UP_TO = '*'
local function each_message(logs, read_key, hidden_key, after, now_ms, visit)
  local up_to = tonumber(redis.call('ZSCORE', read_key, READ_UP_TO) or '0')
  local seen = {}
  for _, log in ipairs(logs) do
    for _, raw in ipairs(redis.call('XRANGE', log, whole(after + 1) .. '-0', '+')) do
      local entry = entry_of(raw)
      local id = entry.m
      if id and not seen[id] and not expired(entry, now_ms) then
        seen[id] = true
        if not redis.call('ZSCORE', hidden_key, id) then
          visit(entry, entry.seq <= up_to or redis.call('ZSCORE', read_key, id) ~= false)
        end
      end
    end
  end
end

local function count_unread(logs, read_key, hidden_key, now_ms)
  local unread = 0
  local up_to = tonumber(redis.call('ZSCORE', read_key, READ_UP_TO) or '0')
  each_message(logs, read_key, hidden_key, up_to, now_ms, function(_, is_read)
    if not is_read then unread = unread + 1 end
  end)
  return unread
end

-- Records of the tasks that these channels watch, newest first, without those the user dismissed.
local function snapshot_tasks(indexes, task_prefix, hidden_key, max)
  local found, seen = {}, {}
  for _, index in ipairs(indexes) do
    for _, id in ipairs(redis.call('ZREVRANGE', index, 0, max - 1)) do
      if not seen[id] then
        seen[id] = true
        local record = redis.call('HGET', task_prefix .. id, 'record')
        if not record then
          redis.call('ZREM', index, id)
        elseif not redis.call('ZSCORE', hidden_key, 't:' .. id) then
          found[#found + 1] = record
        end
      end
    end
  end
  return found
end
