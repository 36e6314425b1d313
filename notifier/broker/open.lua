-- Everything a stream starts from, read in one step: the replay after its cursor and the present state.
--
-- KEYS  epoch, seq, read marks, hidden, then for each channel: log, meta, index of tasks
-- ARGV  1 cursor's epoch ('' where the client has no cursor, '?' where it could not be read), 2 cursor's seq
--       3 now (ms), 4 most entries to replay, 5 fresh epoch, 6 prefix of task keys, 7 most tasks of a channel
-- Answer: verdict, epoch, top seq, replay {seq, frame, ...} by channel, unread, task records, last seq by channel
--   verdict: 'new' | 'ok' | the reason for a reset

local asked, after, now_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local epoch = current_epoch(KEYS[1], ARGV[5])
local top = tonumber(redis.call('GET', KEYS[2]) or '0')
local read_key, hidden_key = KEYS[3], KEYS[4]

local logs, indexes, lasts, lows = {}, {}, {}, {}
for i = 5, #KEYS, 3 do
  logs[#logs + 1], indexes[#indexes + 1] = KEYS[i], KEYS[i + 2]
  local meta = redis.call('HMGET', KEYS[i + 1], 'last', 'low')
  lasts[#lasts + 1] = tonumber(meta[1]) or -1
  lows[#lows + 1] = tonumber(meta[2]) or 0
end

local function judge()
  if asked == '' then return 'new' end
  if asked == '?' then return 'cursor_unknown' end
  if asked ~= epoch then return 'epoch_changed' end
  if after > top then return 'cursor_unknown' end
  return 'ok'
end

-- The missed entries, or the reason why they cannot be complete.
local function missed()
  local entries, count = {}, 0
  for i, log in ipairs(logs) do
    if lows[i] > after then return 'history_trimmed' end
    if lasts[i] > after or lasts[i] == -1 then
      local found = redis.call('XRANGE', log, whole(after + 1) .. '-0', '+')
      if lasts[i] == -1 then
        -- No meta: either nothing was ever published here, or the meta is lost and the log cannot be judged.
        if #found > 0 then return 'history_lost' end
      elseif #found == 0 or seq_of(found[#found][1]) ~= lasts[i] then
        return 'history_lost'
      end
      count = count + #found
      if count > tonumber(ARGV[4]) then return 'too_many_missed' end
      for _, raw in ipairs(found) do
        local entry = entry_of(raw)
        if entry.f and not expired(entry, now_ms) then
          entries[#entries + 1] = entry.seq
          entries[#entries + 1] = entry.f
          entries[#entries + 1] = entry.m or ''
        end
      end
    end
  end
  return 'ok', entries
end

local verdict, entries = judge(), {}
if verdict == 'ok' then
  verdict, entries = missed()
end

return {
  verdict, epoch, top, entries or {},
  count_unread(logs, read_key, hidden_key, now_ms),
  snapshot_tasks(indexes, ARGV[6], hidden_key, tonumber(ARGV[7])),
  lasts,
}
