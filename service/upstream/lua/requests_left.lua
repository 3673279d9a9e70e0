-- How many requests could be sent now.
-- ARGV: share, window in ms.

if ahead('blocked') > now then return 0 end
local left = cap(tonumber(ARGV[1])) - used(ALL, tonumber(ARGV[2]))
if ahead('reset') > now then left = math.min(left, state('remaining') or left) end
return math.max(0, left)
