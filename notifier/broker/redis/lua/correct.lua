-- Reads the frames of a message in the histories of channels, or replaces them in place and announces the new ones.
--
-- KEYS  the messages of the channels
-- ARGV  1 message id, 2 '' to read, else PUBLISH or SPUBLISH;
--       then to replace, for each channel: the frame that was read, the new frame, its pub/sub channel,
--       the first line of the announcement
-- Answer: to read, for each channel: its frame, and the users that do not get it; '' and '' without the
--         message, or where it has expired
--       | to replace: 1, or 0 if a frame is no longer the one that was read: nothing has changed then

-- Appends to the field `c` of an entry when it was corrected.
local function note_corrected(fields, now_ms)
  for j = 1, #fields, 2 do
    if fields[j] == 'c' then
      fields[j + 1] = string.sub(fields[j + 1] .. ' ' .. whole(now_ms), -139) -- ten times
      return
    end
  end
  fields[#fields + 1], fields[#fields + 2] = 'c', whole(now_ms)
end

local now_ms, answer, ids_in = redis_now_ms(), {}, {}
for i, log in ipairs(KEYS) do
  local oldest, ids = {}, {}
  each_with_id(log, ARGV[1], function(id, entry)
    if not expired(entry, now_ms) then oldest, ids[id] = entry, true end
  end)
  answer[#answer + 1], answer[#answer + 2] = oldest.f or '', oldest.n or ''
  ids_in[i] = ids
end
if ARGV[2] == '' then return answer end

for i = 1, #KEYS do
  if answer[2 * i - 1] ~= ARGV[4 * i - 1] then return 0 end
end
for i, log in ipairs(KEYS) do
  local frame, ttl_ms, entries = ARGV[4 * i], call('PTTL', log), call('XRANGE', log, '-', '+')
  -- A stream takes no entry below its last id, so the log is written again.
  call('DEL', log)
  for _, raw in ipairs(entries) do
    local fields = raw[2]
    for j = 1, ids_in[i][raw[1]] and #fields or 0, 2 do
      if fields[j] == 'f' then fields[j + 1] = frame end
    end
    if ids_in[i][raw[1]] then note_corrected(fields, now_ms) end
    call('XADD', log, raw[1], unpack(fields))
  end
  if ttl_ms > 0 then call('PEXPIRE', log, ttl_ms) end
  call(ARGV[2], ARGV[4 * i + 1], ARGV[4 * i + 2] .. '\n' .. frame)
end
return 1
