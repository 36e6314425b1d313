-- Stores the next piece of a task's output on the task's home shard, and announces it; or announces a stored piece on
-- another shard, where the task has a copy.
--
-- KEYS  task, output, then, if an idempotency key was given: its key
-- ARGV  1 number of the piece ('0': the next one, to be stored)
--       2 characters: of the text, or, with a number, of all pieces
--       3 text, 4 head and 5 tail of the frame, around the number
--       6 most bytes of all pieces
--       7 fingerprint, 8 idempotency ttl (s)
--       9 task id, 10 PUBLISH or SPUBLISH, 11 ttl (s)
--      then the pub/sub channels
-- Answer: 'ok' | 'same' (an earlier call with this idempotency key), '<number> <characters of all pieces>'
--       | 'gone': there is no such task
--       | 'ended', the stored record: it takes no output any more
--       | 'other': an earlier call used this idempotency key with another fingerprint

local task, output, n, chars, text = KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local is_new, fingerprint = n == 0, ARGV[7]

local state, answer = remembered(KEYS[3], fingerprint)
if state then return { state, answer or '' } end

local fields = call('HMGET', task, 'record', 'n', 'chars', 'bytes')
if is_new and not fields[1] then return { 'gone' } end
-- Quotes within the record's strings are escaped: this is the field.
if is_new and string.find(fields[1], '"ended_at_ms": ?%d') then return { 'ended', fields[1] } end
local last = number_of(fields[2]) or 0

-- The first piece that stays, and the bytes of all that stay, when the new one is added.
local function kept(bytes)
  local from, most = 1, tonumber(ARGV[6])
  while bytes > most and from < n do
    local oldest = call('XRANGE', output, whole(from) .. '-0', '+', 'COUNT', '64')
    if #oldest == 0 then return n, #text end
    for _, entry in ipairs(oldest) do
      if bytes <= most then break end
      bytes, from = bytes - #entry[2][2], seq_of(entry[1]) + 1
    end
  end
  return from, bytes
end

if is_new then
  -- A key of this name is that of an earlier task, or a foreign value, which XLEN refuses.
  if call('XLEN', output) > 0 and last == 0 then call('EXPIRE', output, 0) end
  n, chars = last + 1, (number_of(fields[3]) or 0) + chars
  local from, bytes = kept((number_of(fields[4]) or 0) + #text)
  call('XADD', output, 'MINID', whole(from) .. '-0', whole(n) .. '-0', 't', text)
  call('EXPIRE', output, ARGV[11])
  call('HSET', task, 'n', whole(n), 'chars', whole(chars), 'bytes', whole(bytes))
elseif fields[1] and n > last then
  call('HSET', task, 'n', whole(n), 'chars', whole(chars))
end

local frame = '- 0 0 output:' .. ARGV[9] .. '\n' .. ARGV[4] .. whole(n) .. ARGV[5]
for i = 12, #ARGV do call(ARGV[10], ARGV[i], frame) end
answer = whole(n) .. ' ' .. whole(chars)
remember(KEYS[3], fingerprint, answer, ARGV[8])
return { 'ok', answer }
