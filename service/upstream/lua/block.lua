-- Forbid every request for a while. The longest block holds.
-- ARGV: milliseconds.

local until_then = now + math.min(tonumber(ARGV[1]), FURTHEST)
if until_then > ahead('blocked') then redis.call('HSET', STATE, 'blocked', until_then) end
return 0
