-- Functions of the scripts that remove single messages from a history; prepended to each of them after shared.lua.

local MAX_LEFT = 10

-- Notes in a channel's meta that a message has left its history, for questions asked afterwards: the last of them, as
-- JSON. `fields` are those of the entry.
local function note_left(meta_key, seq, fields, why)
  local left, known = { why, whole(redis_now_ms()), whole(seq) }, call('HGET', meta_key, 'left')
  local entry = {}
  for i = 1, #fields, 2 do entry[fields[i]] = fields[i + 1] end
  for i, name in ipairs({ 'm', 'a', 'x', 'n', 'c' }) do left[3 + i] = entry[name] or '' end
  local is_list, list = pcall(cjson.decode, known or '[]')
  if not is_list or type(list) ~= 'table' then list = {} end
  list[#list + 1] = left
  while #list > MAX_LEFT do table.remove(list, 1) end
  call('HSET', meta_key, 'left', cjson.encode(list))
end
