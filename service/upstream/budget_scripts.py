"""The request budget's decisions, as Lua: Redis runs each script whole, so all processes share one state and one clock.

State (KEYS[1]) is a hash: `limit`, `remaining` and `reset` of the vendor's newest rate headers, `blocked` (until when a
429 forbids every request), `full_asked` (when a full pull last asked), `serial`. KEYS[2..4] are sorted sets of requests
by the time they were granted: all, those of no full pull, those for details. Times are milliseconds of Redis' clock.
"""

from __future__ import annotations

_COMMON = """
local STATE, ALL, OTHERS, DETAIL = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local FURTHEST = 3600000
local SAME_RESET = 2000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function state(name)
    return tonumber(redis.call('HGET', STATE, name))
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
"""

# ARGV: share, detail share, window in ms, kind of request (full, detail, other), the part of the budget left to those
# that are more urgent. Answers 0 when the request may be sent and was counted, and what the vendor's headers told, this
# request taken off: limit, remaining, milliseconds until the reset; else only milliseconds to wait.
ACQUIRE = (
    _COMMON
    + """
local share, detail_share, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kind, left_part = ARGV[4], tonumber(ARGV[5])
local most = cap(share)
local total, others, details = used(ALL, window), used(OTHERS, window), used(DETAIL, window)
local others_most = math.max(1, math.floor(most * 3 / 4))

-- When one more request fits under `limit`: at once, or when enough of the oldest have left the window.
local function turn(key, count, limit)
    if count < limit then return now end
    if limit < 1 then return now + window end
    local oldest = redis.call('ZRANGE', key, count - limit, count - limit, 'WITHSCORES')
    return tonumber(oldest[2]) + window
end

local kept = math.floor(most * left_part)
local at = math.max(ahead('blocked'), turn(ALL, total, most))
if kind == 'full' then
    redis.call('HSET', STATE, 'full_asked', now)
    if total - others < most - others_most then kept = 0 end
elseif now - (state('full_asked') or -window) < window then
    at = math.max(at, turn(OTHERS, others, others_most))
end
at = math.max(at, turn(ALL, total, most - kept))
if kind == 'detail' then
    local details_most = detail_share > 0 and math.max(1, math.floor(most * detail_share + 1e-9)) or 0
    at = math.max(at, turn(DETAIL, details, details_most))
end
local reset = ahead('reset')
if reset > now and (state('remaining') or 0) <= kept then at = math.max(at, reset) end
if at > now then return {math.ceil(at - now)} end

local serial = redis.call('HINCRBY', STATE, 'serial', 1)
local counted = {ALL}
if kind ~= 'full' then table.insert(counted, OTHERS) end
if kind == 'detail' then table.insert(counted, DETAIL) end
for _, key in ipairs(counted) do
    redis.call('ZADD', key, now, serial)
    redis.call('PEXPIRE', key, window * 2)
end
if reset <= now then return {0} end
return {0, state('limit') or 0, redis.call('HINCRBY', STATE, 'remaining', -1), reset - now}
"""
)

# ARGV: limit, remaining, milliseconds until the reset. Answers may come out of order: for one reset the least that was
# ever said to remain holds, less what was granted since; only a later reset brings more.
NOTE = (
    _COMMON
    + """
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
"""
)

# ARGV: milliseconds for which no request may be sent. The longest block holds.
BLOCK = (
    _COMMON
    + """
local until_then = now + math.min(tonumber(ARGV[1]), FURTHEST)
if until_then > ahead('blocked') then redis.call('HSET', STATE, 'blocked', until_then) end
return 0
"""
)

# ARGV: share, window in ms. Answers how many requests could be sent now.
LEFT = (
    _COMMON
    + """
if ahead('blocked') > now then return 0 end
local left = cap(tonumber(ARGV[1])) - used(ALL, tonumber(ARGV[2]))
if ahead('reset') > now then left = math.min(left, state('remaining') or left) end
return math.max(0, left)
"""
)
