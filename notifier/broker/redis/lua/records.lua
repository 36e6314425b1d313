-- The records of tasks whose ids were read in indexes. Ids without a record are removed from these: the task has expired
-- or was deleted.
--
-- KEYS  the indexes, then for each id: its task, then, if there are marks to regard: hidden
-- ARGV  1 number of indexes, then the ids
-- Answer: for each id: its record with the counts of its output, '' for a task that the user dismissed, nil without one

local indexes = tonumber(ARGV[1])
local hidden = #KEYS > indexes + #ARGV - 1 and KEYS[#KEYS]
local answer, gone = {}, {}
for i = 2, #ARGV do
  local fields = call('HMGET', KEYS[indexes + i - 1], 'record', 'n', 'chars')
  local record, n, chars = fields[1], number_of(fields[2]), number_of(fields[3])
  if not record then
    gone[#gone + 1] = ARGV[i]
  elseif hidden and call('ZSCORE', hidden, 't:' .. ARGV[i]) then
    record = ''
  elseif n and chars then
    record = string.sub(record, 1, -2) .. format(',"output_n":%d,"output_chars":%d}', n, chars)
  end
  answer[i - 1] = record
end
-- All is read: a foreign value has stopped the script before it changes anything.
for i = 1, indexes do
  for _, id in ipairs(gone) do call('ZREM', KEYS[i], id) end
end
return answer
