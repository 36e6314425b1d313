-- The epoch rule: a primary other than the one that the shard was last used on may have lost its newest writes, so a
-- new epoch begins. By compare-and-set, only the first process that connects replaces the epoch.
--
-- KEYS  epoch, identity
-- ARGV  1 this primary's identity, 2 fresh epoch, 3 '1': replace it in any case, this process was answered by a primary
--       that had been replaced
-- Answer: epoch, 0 (kept), 1 (replaced) or 2 (this shard is new)

local known = redis.call('GET', KEYS[2])
local epoch = redis.call('GET', KEYS[1])
-- Written in any case: a primary that accepts no writes is refused.
redis.call('SET', KEYS[2], ARGV[1])
if known == ARGV[1] and is_epoch(epoch) and ARGV[3] ~= '1' then return { epoch, 0 } end
local state = (known or epoch) and 1 or 2
redis.call('SET', KEYS[1], ARGV[2])
return { ARGV[2], state }
