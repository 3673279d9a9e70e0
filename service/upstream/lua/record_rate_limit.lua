-- Take over the vendor's rate headers.
-- ARGV: limit, remaining, milliseconds until the reset. Responses may come out of order: for one reset the least that
-- was ever said to remain holds, less what was granted since; only a later reset brings more.

local limit, remaining, reset = tonumber(ARGV[1]), tonumber(ARGV[2]), now + tonumber(ARGV[3])
if limit >= 1 then redis.call('HSET', STATE, 'limit', limit) end
if reset <= now then return 0 end
local known = ahead('reset')
if known <= now or reset > known + SAME_RESET then
    redis.call('HSET', STATE, 'reset', reset, 'remaining', remaining)
elseif reset >= known - SAME_RESET then
    redis.call('HSET', STATE, 'remaining', math.min(remaining, state('remaining') or remaining))
end
return 0
