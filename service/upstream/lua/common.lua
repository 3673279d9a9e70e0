-- The request budget's state and clock. Redis runs each script whole, so all processes share one state and one clock.
-- budget.py puts this file in front of each of the others.
--
-- KEYS[1] is a hash: `limit`, `remaining` and `reset` of the vendor's newest rate headers, `blocked` (until when a 429
-- forbids every request), `full_asked` (when a full pull last asked), `full_next` (when a long one may send its next
-- request), `serial`. KEYS[2..4] are sorted sets of requests by the time they were granted: all, those of no full pull,
-- those of the purpose if it has a share of its own. Times are milliseconds of Redis' clock.

local STATE, ALL, OTHERS, OWN = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local FURTHEST = 3600000
local SAME_RESET = 2000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local known, stored = {}, redis.call('HGETALL', STATE)
for i = 1, #stored, 2 do known[stored[i]] = tonumber(stored[i + 1]) end

-- What a field was when the script began.
local function state(name)
    return known[name]
end

-- A time that lies ahead; one further off than any vendor would say is left from a clock that was set back.
local function ahead(name)
    local value = state(name) or now
    return (value > now and value <= now + FURTHEST) and value or now
end

local function cap(share)
    return math.max(1, math.floor((state('limit') or 300) * share + 1e-9))
end

local function used(key, window)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
    redis.call('ZREMRANGEBYSCORE', key, now + 1000, '+inf')
    return redis.call('ZCARD', key)
end
