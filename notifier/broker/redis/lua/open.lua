-- What a stream starts from, read in one step: the replay after its cursor and the present state.
--
-- KEYS  epoch, seq, floor, the user's revocation token, read marks, hidden,
--       then for each channel: log, meta, index of tasks
-- ARGV  1 cursor's epoch ('': no cursor was given; '?': it could not be parsed), 2 cursor's seq
--       3 now (ms), 4 most entries to replay, 5 fresh epoch, 6 prefix of task keys, 7 most tasks of a channel
--       8 history ttl (s)
-- Answer: verdict, epoch, top seq, replay {seq, frame, repeat key, ...} by channel, unread, task records, last seq by
--   channel, the user's revocation token ('': none), how long ago it was replaced (ms; -1: unknown)
--   verdict: 'new' | 'ok' | the reason for a reset

local asked, after, now_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local epoch = current_epoch(KEYS[1], ARGV[5])
local top = counter_of(KEYS[2])
if not top then return foreign_counter() end
local read_key, hidden_key = KEYS[5], KEYS[6]

local logs, indexes, lasts, lows = {}, {}, {}, {}
for i = 7, #KEYS, 3 do
  logs[#logs + 1], indexes[#indexes + 1] = KEYS[i], KEYS[i + 2]
  local meta = redis.call('HMGET', KEYS[i + 1], 'last', 'low')
  lasts[#lasts + 1] = number_of(meta[1]) or -1
  lows[#lows + 1] = number_of(meta[2]) or 0
end

-- Up to this seq, a channel without a meta may have had events that left no trace.
local function floor()
  local a, _, t = read_floor(KEYS[3])
  if not a or math.abs(redis_now_ms() - t) > 4000 * tonumber(ARGV[8]) then return top end
  return a
end

local function judge()
  if asked == '' then return 'new' end
  if asked == '?' then return 'cursor_unknown' end
  if asked ~= epoch then return 'epoch_changed' end
  if after > top then return 'cursor_unknown' end
  for i, low in ipairs(lows) do
    if low > after or (lasts[i] == -1 and after < floor()) then return 'history_trimmed' end
  end
  return 'ok'
end

-- Each log is read once, from where the replay or the unread messages begin; a log without a meta in any case.
local verdict, up_to, lists = judge(), read_up_to(read_key), {}
local needed = verdict == 'ok' and math.min(after, up_to) or up_to
for i, log in ipairs(logs) do
  lists[i] = (lasts[i] == -1 or lasts[i] > needed) and entries_after(log, needed) or {}
end

-- True if the client has the event from another chunk of the same publish, at or before its cursor. The chunks of a
-- publish have seqs close to each other, so a few entries of each log are enough.
local NEAR = 32
local keys_before
local function came_before(repeat_key)
  if not keys_before then
    keys_before = {}
    for _, log in ipairs(logs) do
      for _, raw in ipairs(redis.call('XREVRANGE', log, whole(after) .. '-0', '-', 'COUNT', NEAR)) do
        keys_before[entry_of(raw).k or ''] = true
      end
    end
  end
  return keys_before[repeat_key]
end

-- The missed entries, or the reason why they cannot be complete.
local function missed()
  local entries, count = {}, 0
  for i, list in ipairs(lists) do
    local newest = list[#list]
    -- Entries without a meta: the meta is lost, so the log may be incomplete.
    if lasts[i] == -1 and newest and newest.seq > after then return 'history_lost' end
    if lasts[i] > after and (not newest or newest.seq ~= lasts[i]) then return 'history_lost' end
    for _, entry in ipairs(list) do
      if entry.seq > after then
        count = count + 1
        if entry.f and not expired(entry, now_ms) and not (entry.k and came_before(entry.k)) then
          entries[#entries + 1] = entry.seq
          entries[#entries + 1] = entry.f
          entries[#entries + 1] = entry.k or entry.m or ''
        end
      end
    end
  end
  if count > tonumber(ARGV[4]) then return 'too_many_missed' end
  return 'ok', entries
end

local entries
if verdict == 'ok' then
  verdict, entries = missed()
end

local revoked = redis.call('GET', KEYS[4]) or ''
local revoked_ms = number_of(string.match(revoked, '@(%d+)$'))

return {
  verdict, epoch, top, entries or {},
  count_unread(lists, read_key, hidden_key, now_ms),
  snapshot_tasks(indexes, ARGV[6], hidden_key, tonumber(ARGV[7])),
  lasts, revoked, revoked_ms and redis_now_ms() - revoked_ms or -1,
}
