-- The tasks of a user's channels, last changed first: the indexes are merged, and little more is read than is answered.
--
-- KEYS  hidden, then for each channel: its index of tasks
-- ARGV  1 prefix of task keys, 2 most tasks of a channel, 3 most tasks
-- Answer: records

local STEP, MAX_WALKED = 8, 2000
local most_of_one, most = tonumber(ARGV[2]), tonumber(ARGV[3])

-- The next id of an index, and its time, as fields of the source; nil at its end.
local function advance(source)
  if source.at > #source.rows then
    source.rows = redis.call('ZREVRANGE', source.key, source.read, source.read + STEP - 1, 'WITHSCORES')
    source.at, source.read = 1, source.read + STEP
  end
  source.id, source.time = source.rows[source.at], tonumber(source.rows[source.at + 1])
  source.at = source.at + 2
end

local sources = {}
for i = 2, #KEYS do
  local source = { key = KEYS[i], rows = {}, at = 1, read = 0, kept = 0 }
  advance(source)
  sources[#sources + 1] = source
end

local function newest_source()
  local newest
  for _, source in ipairs(sources) do
    if source.id and source.kept < most_of_one and (not newest or source.time > newest.time) then newest = source end
  end
  return newest
end

local records, known, expired = {}, {}, {}
for _ = 1, MAX_WALKED do
  local source = #records < most and newest_source()
  if not source then break end
  local id = source.id
  local record = known[id] or record_of(ARGV[1] .. id)
  if not record then
    expired[#expired + 1] = { source.key, id }
  else
    source.kept = source.kept + 1
    if not known[id] and not redis.call('ZSCORE', KEYS[1], 't:' .. id) then records[#records + 1] = record end
    known[id] = record
  end
  advance(source)
end
for _, row in ipairs(expired) do redis.call('ZREM', row[1], row[2]) end
return records
