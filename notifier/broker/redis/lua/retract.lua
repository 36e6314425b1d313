-- Removes a message from the histories of channels, and announces to each that had it that it is gone.
--
-- KEYS  for each channel: its messages, its meta
-- ARGV  1 message id, 2 PUBLISH or SPUBLISH, 3 another word for each call, then for each channel: its pub/sub channel
-- Answer: the number of channels that had the message

local holding, metas = {}, {}
for i = 1, #KEYS, 2 do
  local ids, oldest = {}, nil
  each_with_id(KEYS[i], ARGV[1], function(id, _, fields) ids[#ids + 1], oldest = id, fields end)
  if #ids > 0 then
    holding[#holding + 1] = { at = i, ids = ids, fields = oldest }
    metas[i] = meta_of(KEYS[i + 1], KEYS[i])
  end
end

for _, channel in ipairs(holding) do
  local log, meta_key, meta = KEYS[channel.at], KEYS[channel.at + 1], metas[channel.at]
  call('XDEL', log, unpack(channel.ids))
  -- An empty log counts as foreign: its last id stays.
  if call('XLEN', log) == 0 then call('DEL', log) end
  if meta then
    -- Without the newest message the log would seem to lack it.
    meta.m = newest_in(log) or 0
    call('HSET', meta_key, 'logs', logs_of(meta), 'gone', ARGV[3])
    note_left(meta_key, seq_of(channel.ids[#channel.ids]), channel.fields, 'retracted')
  end
  call(ARGV[2], ARGV[3 + (channel.at + 1) / 2], '? 0 0 retract\n' .. ARGV[1])
end
return #holding
