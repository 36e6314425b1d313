-- Functions of the scripts that read logs or marks; prepended to each of them after shared.lua.

-- A history entry as a table: seq, f (frame), m (message id), x (expiry in ms), k (repeat key), n (ids of the users that
-- do not get it, each between line ends), c (when it was corrected, in ms, with spaces between). A foreign entry may
-- lack any field.
local function entry_of(raw)
  local entry = { seq = seq_of(raw[1]) }
  local fields = raw[2]
  for i = 1, #fields, 2 do entry[fields[i]] = fields[i + 1] end
  return entry
end

-- The entries after a seq: all, or the first `most` of them.
local function entries_after(log, after, most)
  local range = { 'XRANGE', log, whole(after + 1) .. '-0', '+' }
  if most then range[5], range[6] = 'COUNT', most end
  local entries = call(unpack(range))
  for i, raw in ipairs(entries) do entries[i] = entry_of(raw) end
  return entries
end

-- Calls visit(entry id, entry, fields) for each entry of a message in a log, newest first. A few entries are read at a time, so
-- that Redis does not copy a whole history of large messages.
local function each_with_id(log, message_id, visit)
  local before = '+'
  repeat
    local entries = call('XREVRANGE', log, before, '-', 'COUNT', 32)
    for _, raw in ipairs(entries) do
      local entry = entry_of(raw)
      if entry.m == message_id then visit(raw[1], entry, raw[2]) end
      before = '(' .. raw[1]
    end
  until #entries < 32
end

local function expired(entry, now_ms)
  local at = tonumber(entry.x)
  return at ~= nil and at <= now_ms
end

-- `user`: the id between line ends.
local function excludes(entry, user) return entry.n ~= nil and string.find(entry.n, user, 1, true) ~= nil end

-- A function that says if an id is in a sorted set. After 50 lookups it reads the whole set: single lookups took most
-- of the time of a long inbox.
local function members_of(key)
  local lookups, all = 0, nil
  return function(id)
    if all then return all[id] == true end
    lookups = lookups + 1
    if lookups > 50 then
      all = {}
      for _, member in ipairs(call('ZRANGE', key, 0, -1)) do all[member] = true end
      return all[id] == true
    end
    return call('ZSCORE', key, id) ~= false
  end
end

-- Calls visit(entry, is_read) once for each message that the user can see. A message to several channels is in several
-- logs under one id; it is visited once.
local READ_UP_TO = '*'
-- A member of the deletions whose score goes down with each change of a user's marks: the number of marks stays the same
-- where the oldest are removed. Being the lowest, it is never removed itself.
local VERSION = '#'
local function version_of(hidden_key) return tonumber(call('ZSCORE', hidden_key, VERSION) or '0') end

local function read_up_to(read_key) return tonumber(call('ZSCORE', read_key, READ_UP_TO) or '0') end

local function each_message(lists, read_key, hidden_key, now_ms, user, visit)
  local up_to = read_up_to(read_key)
  local is_hidden, is_marked, seen = members_of(hidden_key), members_of(read_key), {}
  for _, entries in ipairs(lists) do
    for _, entry in ipairs(entries) do
      local id = entry.m
      if id and not seen[id] and not expired(entry, now_ms) and not excludes(entry, user) then
        seen[id] = true
        if not is_hidden(id) then visit(entry, entry.seq <= up_to or is_marked(id)) end
      end
    end
  end
end

-- `lists` may lack the entries up to READ_UP_TO: they are read.
local function count_unread(lists, read_key, hidden_key, now_ms, user)
  local unread = 0
  each_message(lists, read_key, hidden_key, now_ms, user, function(_, is_read)
    if not is_read then unread = unread + 1 end
  end)
  return unread
end
