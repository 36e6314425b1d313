-- What a stream starts from, read in one step: the replay after its cursor, or the first portion of it, and the present
-- state. A stream that has a portion asks again, with the portion's last seq as its cursor.
--
-- KEYS  epoch, seq, floor, the user's revocation token, read marks, hidden,
--       then for each channel: its messages, its events, its meta, its index of tasks
-- ARGV  1 cursor's epoch ('': no cursor was given; '?': it could not be parsed), 2 cursor's seq
--       3 now (ms), 4 most entries to replay, 5 fresh epoch, 6 most tasks of a channel,
--       7 history ttl (s), 8 most bytes of a portion (0: no bound; an event that is larger is a portion of its own),
--       9 '1' if earlier portions of this replay were written: 4 then bounds this portion, and not the whole replay
--       10 number of the channels that are topics, which come last, 11 ttl of their histories (s)
--       12 the user's id between line ends
--       then perhaps for each channel: the seq after which the stream hears it, if that is later than its cursor
-- Answer, by position:
--       1 verdict: 'new' | 'ok' | the reason for a reset, 2 epoch, 3 top seq
--       4 replay, in order: {seq, frame, repeat key, channel's index, ...}
--       5 unread; -1 if more than a few messages have to be looked at: the service knows where they are and counts
--       6 for each channel: the ids of its tasks, last changed first
--       7 last seq of each channel, 8 the user's revocation token ('': none)
--       9 ms since that token was replaced (-1: no token, or one without a time)
--       10 seq that the replay reaches, 11 number of missed events
--   A portion between the first and the last has no state: unread 0, no tasks.

local asked, after, now_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most, portion_bytes, continued = tonumber(ARGV[4]), tonumber(ARGV[8]), ARGV[9] == '1'
local epoch = current_epoch(KEYS[1], ARGV[5])
local top = counter_of(KEYS[2])
if not top then return foreign_counter() end
local read_key, hidden_key = KEYS[5], KEYS[6]
local function after_of(channel) return math.max(after, tonumber(ARGV[12 + channel] or '0')) end

-- Each channel has two logs: its messages and its events. `newest`: seq of the newest entry by the meta; nil without one.
local logs, indexes, lasts, lows = {}, {}, {}, {}
for i = 7, #KEYS, 4 do
  local meta, channel = meta_of(KEYS[i + 2], KEYS[i]), #lasts + 1
  local from = after_of(channel)
  logs[#logs + 1] = { key = KEYS[i], channel = channel, after = from, newest = meta and meta.m }
  logs[#logs + 1] = { key = KEYS[i + 1], channel = channel, after = from, newest = meta and meta.e, has_events = true }
  indexes[channel] = KEYS[i + 3]
  lasts[channel] = meta and meta.last or -1
  lows[channel] = meta and math.max(meta.mlow, meta.elow) or 0
end

-- Up to this seq, a channel without a meta may have had events that left no trace.
local function floor()
  local a, _, t = read_floor(KEYS[3])
  if not a or math.abs(redis_now_ms() - t) > 4000 * tonumber(ARGV[7]) then return top end
  return a
end

local topics = tonumber(ARGV[10])

-- The same for the channels of topics.
local function topic_floor()
  local known = read_topic_floor(KEYS[3])
  return known and floor_of_topics(known, redis_now_ms(), ARGV[11]) or floor()
end

local function judge()
  if asked == '' then return 'new' end
  if asked == '?' then return 'cursor_unknown' end
  if asked ~= epoch then return 'epoch_changed' end
  if after > top then return 'cursor_unknown' end
  for i, low in ipairs(lows) do
    if low > after_of(i) then return 'history_trimmed' end
    if lasts[i] == -1 and after_of(i) < (i > #lasts - topics and topic_floor() or floor()) then return 'history_trimmed' end
  end
  return 'ok'
end

local verdict, up_to = judge(), read_up_to(read_key)

-- The first part of a replay reads each log into its `list`; a log without a meta in any case.
if verdict == 'ok' and not continued then
  for _, log in ipairs(logs) do
    log.list = (not log.newest or log.newest > log.after) and entries_after(log.key, log.after) or {}
  end
end

-- True if a log may lack entries after the cursor: its newest is missing, or the meta that names the newest.
local function is_incomplete(log)
  if log.newest and log.newest <= log.after then return false end
  local list, newest = log.list, nil
  if list then newest = list[#list] and list[#list].seq else newest = newest_in(log.key) end
  if log.newest then return newest ~= log.newest end
  return (newest or 0) > log.after
end

-- A function that returns the missed entries one by one, in order.
local function missed_entries()
  local sources = {}
  if not continued then
    local all = {}
    for _, log in ipairs(logs) do
      for _, entry in ipairs(log.list) do
        all[#all + 1] = entry
        entry.channel = log.channel
      end
    end
    if #all > most then return nil end
    table.sort(all, function(a, b) return a.seq < b.seq or (a.seq == b.seq and a.channel < b.channel) end)
    sources[1] = { list = all, at = 1, ended = true }
  else
    -- In steps that double: a portion reads little more than it takes.
    for _, log in ipairs(logs) do
      if not log.newest or log.newest > log.after then
        sources[#sources + 1] =
          { log = log.key, channel = log.channel, list = {}, at = 1, ended = false, step = 2, last = log.after }
      end
    end
  end
  return function()
    local oldest, of
    for _, source in ipairs(sources) do
      if source.at > #source.list and not source.ended then
        source.list, source.at = entries_after(source.log, source.last, source.step), 1
        source.ended, source.step = #source.list < source.step, source.step * 2
      end
      local entry = source.list[source.at]
      if entry and (not oldest or entry.seq < oldest.seq) then oldest, of = entry, source end
    end
    if of then
      of.at, of.last = of.at + 1, oldest.seq
      oldest.channel = oldest.channel or of.channel
    end
    return oldest
  end
end

-- A verdict, the replay, the seq that it reaches, the number of missed events. All copies of an event are in one portion.
local function replay()
  for _, log in ipairs(logs) do
    if is_incomplete(log) then return 'history_lost' end
  end
  local next_entry = missed_entries()
  if not next_entry then return 'too_many_missed' end
  local portion, bytes, reached, count, seen = {}, 0, top, 0, {}
  local function is_full(entry)
    local last = portion[#portion - 3]
    if not last or entry.seq == last or portion_bytes == 0 then return false end
    return bytes + #entry.f > portion_bytes or (continued and #portion >= 4 * most)
  end
  for entry in next_entry do
    if entry.f and not expired(entry, now_ms) and not excludes(entry, ARGV[12]) then
      local key, at = entry.k or '', #portion
      if reached == top and is_full(entry) then
        reached = portion[#portion - 3]
        if continued then break end
      end
      if reached == top then
        bytes = bytes + #entry.f
        portion[at + 1], portion[at + 2], portion[at + 3], portion[at + 4] = entry.seq, entry.f, key, entry.channel
      end
      if not seen[entry.seq] and not seen[key] then count = count + 1 end
      seen[entry.seq], seen[key] = true, key ~= '' or nil
    end
  end
  return 'ok', portion, reached, count
end

local entries, reached, count
if verdict == 'ok' then
  verdict, entries, reached, count = replay()
end

-- Redis takes longer to read a message, with its frame, than the service to look at what it knows of it.
local FEW = 16
local function count_few_unread()
  local lists, left = {}, FEW
  for _, log in ipairs(logs) do
    local is_topic = log.channel > #lasts - topics
    if not log.has_events and not is_topic and (not log.newest or log.newest > up_to) then
      local list = entries_after(log.key, up_to, left + 1)
      left = left - #list
      if left < 0 then return -1 end
      lists[#lists + 1] = list
    end
  end
  return count_unread(lists, read_key, hidden_key, now_ms, ARGV[12])
end

local unread, tasks = 0, {}
if not continued or not reached or reached == top then
  unread = count_few_unread()
  for i, index in ipairs(indexes) do tasks[i] = call('ZREVRANGE', index, 0, tonumber(ARGV[6]) - 1) end
end

local revoked = redis.call('GET', KEYS[4]) or ''
local revoked_ms = number_of(string.match(revoked, '@(%d+)$'))

return {
  verdict, epoch, top, entries or {}, unread, tasks,
  lasts, revoked, revoked_ms and redis_now_ms() - revoked_ms or -1,
  reached or top, count or 0,
}
