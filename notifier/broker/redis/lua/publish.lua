-- Stores one event in the history of each recipient channel and announces it, in one step, all or nothing.
-- Used by the HTTP API and by the Django bridge alike.
--
-- KEYS  seq, epoch, floor, then for each channel: the log of this kind of event, its other log, its meta; then, if an
--       idempotency key was given: its key; then, for a later chunk of a publish: the key of the first
-- ARGV  1 fresh epoch        used if the shard has none
--       2 history size       exact bound of the log (MAXLEN ~ lets short histories grow tenfold)
--       3 history ttl, s
--       4 meta ttl, s        longer: the meta tells an expired log from one that never had events
--       5 head, 6 tail       the frame; a tail means: frame = head .. channel name as JSON .. tail
--       7 'm' or 'e'         a message, or another event
--       8 fingerprint        '' if no idempotency key was given
--       9 idempotency ttl, s
--      10 repeat key         '-', or the key by which a stream drops the event if it comes again; then perhaps a space
--                            and notes, as JSON: whom the event leaves out, when it was accepted (notes.py)
--      11 durable            '1', or '0': announce only
--      12 floor due          '1': the shard's floor is brought up to date; '0': another call does that
--      13 PUBLISH or SPUBLISH
--      14 number of channels
--      15 '', or of those that are topics, which come first: their number, history size, and ttl (s) of log and meta
--      then for each channel: its pub/sub channel, its name as JSON ('' without a tail)
--      then what is stored beside the frame: names of fields and their values; `q` is the key by which a message
--      replaces the earlier one of its channel
-- Answer: 'new' | 'same' | 'other', epoch, seq, watched (0 or 1), with spaces between: one text costs less than a list
--
-- Announcement: '<epoch> <seq> <previous seq of this channel> <ARGV[10]>\n' .. the event as it goes on the wire.

local fresh, size, ttl_s, meta_ttl_s, head, tail = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local fingerprint, repeat_key, durable, publish = ARGV[8], ARGV[10], ARGV[11] == '1', ARGV[13]
local channels = tonumber(ARGV[14])
local topics, topic_size, topic_ttl_s = 0, nil, nil
if ARGV[15] ~= '' then
  topics, topic_size, topic_ttl_s = match(ARGV[15], '^(%d+) (%d+) (%d+)$')
  topics = tonumber(topics)
end
local newest_field, low_field = ARGV[7], ARGV[7] .. 'low'

local idempotency_key = KEYS[4 + 3 * channels]
local state, answer = remembered(idempotency_key, fingerprint)
-- A call with another body may have had fewer chunks.
if not state and #KEYS > 4 + 3 * channels and remembered(KEYS[#KEYS], fingerprint) == 'other' then state = 'other' end
if state then return state .. ' ' .. (match(answer or '', '^%S+ %d+ %d$') or ' 0 0') end

local epoch = current_epoch(KEYS[2], fresh)
local seq, metas = 0, {}

-- The shard's floor, read once and only where it is needed: if it is due, and for a channel without a meta.
local floor, floor_next, is_floor_old, now_ms
local function look_at_floor()
  if now_ms then return end
  local a, b, t = read_floor(KEYS[3])
  local ttl_ms = 1000 * ttl_s
  now_ms = redis_now_ms()
  local age_ms = t and math.abs(now_ms - t) or math.huge
  floor = age_ms > 4 * ttl_ms and seq - 1 or age_ms > 2 * ttl_ms and b or a
  floor_next, is_floor_old = b or 0, age_ms > 2 * ttl_ms
end

-- The same for channels of topics: where they have no meta, cursors below this seq are reset.
local topic_floor
local function look_at_topic_floor()
  look_at_floor()
  topic_floor = read_topic_floor(KEYS[3]) or { a = floor, b = floor, newest = floor, a_ms = now_ms, b_ms = now_ms }
end

local function store_topic_floor(key)
  local known = topic_floor
  if known.b_ms <= now_ms - 333 * topic_ttl_s then
    known.a, known.a_ms, known.b, known.b_ms = known.b, known.b_ms, known.newest, now_ms
  end
  call('HSET', key, 'ta', whole(known.a), 'tat', whole(known.a_ms), 'tb', whole(known.b), 'tbt', whole(known.b_ms),
    'tn', whole(seq))
end

local replace_key, message_id
for i = 16 + 2 * channels, #ARGV, 2 do
  if ARGV[i] == 'q' then replace_key = ARGV[i + 1] elseif ARGV[i] == 'm' then message_id = ARGV[i + 1] end
end

-- The entry that this message replaces in a log: its id there, the id of the message, and its fields.
local function replaced_in(log)
  local before = '+'
  repeat
    local entries = call('XREVRANGE', log, before, '-', 'COUNT', '32')
    for _, raw in ipairs(entries) do
      local fields, is_same, id = raw[2], false, ''
      for j = 1, #fields, 2 do
        if fields[j] == 'q' then is_same = fields[j + 1] == replace_key elseif fields[j] == 'm' then id = fields[j + 1] end
      end
      if is_same then return raw[1], id, fields end
      before = whole(seq_of(raw[1]) - 1)
    end
  until #entries < 32
end

-- What is known of a channel before this event; nil where its log is foreign.
local function state_of(i)
  local log, other, meta_key = KEYS[1 + 3 * i], KEYS[2 + 3 * i], KEYS[3 + 3 * i]
  local messages = newest_field == 'm' and log or other
  local meta, length = meta_of(meta_key, messages), call('XLEN', log)
  -- An entry that is not below this seq is foreign: nothing can be added after it. Nor to an emptied log, which
  -- remembers its last id, nor after an id that is too high.
  local ahead = call('XREVRANGE', log, '+', whole(seq), 'COUNT', '1')[1]
  local foreign = ahead and seq_of(ahead[1]) or 0
  if foreign >= MAX_SEQ or (length == 0 and call('EXISTS', log) == 1) then return nil end
  if not meta then
    -- A new channel, or one whose meta is lost: everything before this event counts as trimmed.
    local m, e = newest_in(messages) or 0, newest_in(messages == log and other or log) or 0
    if m >= MAX_SEQ or e >= MAX_SEQ then return nil end
    look_at_floor()
    local low = (m > 0 or e > 0) and seq - 1 or i <= topics and floor_of_topics(topic_floor, now_ms, topic_ttl_s) or floor
    meta = { last = math.max(m, e), m = m, e = e, mlow = low, elow = low }
  elseif length == 0 then
    -- The log expired: everything in it counts as trimmed.
    meta[low_field] = math.max(meta[low_field], meta[newest_field])
  end
  if foreign > meta.last then meta.last = foreign end
  meta.length = length
  if replace_key and length > 0 then meta.replaced, meta.replaces, meta.replaced_fields = replaced_in(log) end
  return meta
end

-- The channels' keys are read before the first is written: a foreign value stops the script before it stores anything.
if durable then
  seq = redis.pcall('INCR', KEYS[1])
  if type(seq) ~= 'number' or seq < 1 or seq >= MAX_SEQ then
    -- READONLY, NOREPLICAS and the like say nothing of the counter.
    local code = type(seq) == 'table' and match(seq.err, '^%u+') or 'ERR'
    return (code == 'ERR' or code == 'WRONGTYPE') and foreign_counter() or seq
  end
  if ARGV[12] == '1' then look_at_floor() end
  local newest = 0
  if topics > 0 then
    look_at_topic_floor()
    newest = topic_floor.newest
  end
  for i = 1, channels do
    local meta = state_of(i)
    if not meta then return redis.error_reply('WRONGTYPE a foreign log') end
    metas[i] = meta
    if meta.last > newest then newest = meta.last end
  end
  if now_ms and floor_next > newest then newest = floor_next end
  if newest >= seq then
    -- The counter is behind the channels (it was overwritten or lost): a new epoch begins above both.
    seq, epoch = newest + 1, fresh
    call('SET', KEYS[1], whole(seq))
    call('SET', KEYS[2], fresh)
  end
  if topics > 0 then store_topic_floor(KEYS[3]) end
  if is_floor_old then call('HSET', KEYS[3], 'a', whole(floor), 'b', whole(seq), 't', whole(now_ms)) end
else
  seq = counter_of(KEYS[1])
  if not seq then return foreign_counter() end
end

local shown, watched = whole(seq), 0
local id_line = durable and ('id: ' .. epoch .. '-' .. shown .. '\n') or ''

for i = 1, channels do
  local meta = metas[i]
  local replaces = meta and meta.replaces and meta.replaces ~= message_id and ',"replaces":"' .. meta.replaces .. '"' or ''
  local frame = tail == '' and head or (head .. ARGV[15 + 2 * i] .. replaces .. tail)
  local lead = epoch .. ' 0 0 '
  if durable then
    local log = KEYS[1 + 3 * i]
    local size, ttl_s, meta_ttl_s = size, ttl_s, meta_ttl_s
    if i <= topics then size, ttl_s, meta_ttl_s = topic_size, topic_ttl_s, topic_ttl_s end
    if meta.replaced then
      call('XDEL', log, meta.replaced)
      call('HSET', KEYS[3 + 3 * i], 'gone', shown)
      if meta.replaces ~= message_id then
        note_left(KEYS[3 + 3 * i], seq_of(meta.replaced), meta.replaced_fields, 'replaced')
      end
      meta.length = meta.length - 1
    end
    local excess = meta.length + 1 - size
    if excess > 0 then
      local trimmed = call('XRANGE', log, '-', '+', 'COUNT', whole(excess))
      meta[low_field] = seq_of(trimmed[#trimmed][1])
    end
    call('XADD', log, 'MAXLEN', size, shown, 'f', frame, unpack(ARGV, 16 + 2 * channels))
    call('EXPIRE', log, ttl_s)
    lead = epoch .. ' ' .. shown .. ' ' .. whole(meta.last) .. ' '
    meta.last, meta[newest_field] = seq, seq
    store_meta(KEYS[3 + 3 * i], meta, meta_ttl_s)
  end
  if call(publish, ARGV[14 + 2 * i], lead .. repeat_key .. '\n' .. id_line .. frame) > 0 then watched = 1 end
end

answer = epoch .. ' ' .. shown .. ' ' .. watched
remember(idempotency_key, fingerprint, answer, ARGV[9])
return 'new ' .. answer
