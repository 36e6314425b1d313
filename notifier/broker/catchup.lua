-- What some channels' logs hold after the last seq that a process has seen, up to a top that bounds all batches.
--
-- KEYS  epoch, seq, then for each channel: log, meta
-- ARGV  1 top ('' to take the present one), then for each channel: the last seq seen
-- Answer: epoch, top, then for each channel {complete (1 or 0), last, seq, frame, seq, frame, ...}

local top = ARGV[1] ~= '' and tonumber(ARGV[1]) or tonumber(redis.call('GET', KEYS[2]) or '0')
local answer = { redis.call('GET', KEYS[1]) or '', top }
for i = 3, #KEYS, 2 do
  local after = tonumber(ARGV[(i + 1) / 2])
  local meta = redis.call('HMGET', KEYS[i + 1], 'last', 'low')
  local last, low = tonumber(meta[1]), tonumber(meta[2]) or 0
  local found = { 1, last or 0 }
  if last == nil then
    -- Nothing was ever published, or everything about the channel vanished: then a seen seq cannot be followed.
    if after > 0 or redis.call('EXISTS', KEYS[i]) == 1 then found[1] = 0 end
  elseif low > after then
    found[1] = 0
  elseif last > after then
    local newest = 0
    for _, raw in ipairs(redis.call('XRANGE', KEYS[i], whole(after + 1) .. '-0', '+')) do
      local entry = entry_of(raw)
      newest = entry.seq
      if entry.seq <= top and entry.f then
        found[#found + 1] = entry.seq
        found[#found + 1] = entry.f
      end
    end
    if newest ~= last then found[1] = 0 end
  end
  answer[#answer + 1] = found
end
return answer
