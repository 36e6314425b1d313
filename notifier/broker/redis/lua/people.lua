-- Who is present on a topic: begins, renews and ends leases, or reads a portion of them. By Redis' clock, so that processes with other
-- clocks agree.
--
-- KEYS  the leases: by connection, the time of the end (ms) and the person
-- ARGV  1 ttl (s) of the key, then for each lease: connection, its ttl (ms; 0: it ends), the person
--       | 1 ttl, 2 the place at which a portion begins ('0': the first), 3 about how many leases it has
-- Answer: with leases: 1 if others see a change or are to look earlier, else 0
--       | a portion: the place of the next ('0': there is none), for each lease connection, person, the ms that are left.
--         A lease that is there all the time is in one portion or in several.

local EARLIER_MS = 1000 -- of a lease that ends so much earlier: others are to look again

local now_ms = redis_now_ms()

local function lease_of(stored)
  local ends_ms, person = match(stored or '', '^(%d+) (.*)$')
  ends_ms = number_of(ends_ms)
  if ends_ms and ends_ms > now_ms then return ends_ms, person end
end

if #ARGV == 3 then
  local portion = call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
  local stored, answer = portion[2], { portion[1] }
  for i = 1, #stored, 2 do
    local ends_ms, person = lease_of(stored[i + 1])
    if ends_ms then
      for _, value in ipairs({ stored[i], person, ends_ms - now_ms }) do answer[#answer + 1] = value end
    else
      call('HDEL', KEYS[1], stored[i])
    end
  end
  return answer
end

local changed = 0
for i = 2, #ARGV, 3 do
  local ends_ms, person = lease_of(call('HGET', KEYS[1], ARGV[i]))
  if ARGV[i + 1] == '0' then
    call('HDEL', KEYS[1], ARGV[i])
    if person then changed = 1 end
  else
    call('HSET', KEYS[1], ARGV[i], whole(now_ms + ARGV[i + 1]) .. ' ' .. ARGV[i + 2])
    if person ~= ARGV[i + 2] or ends_ms > now_ms + ARGV[i + 1] + EARLIER_MS then changed = 1 end
  end
end
call('EXPIRE', KEYS[1], ARGV[1])
return changed
