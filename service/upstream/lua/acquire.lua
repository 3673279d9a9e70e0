-- Grant one request, or say how long to wait.
-- ARGV: share, the purpose's own share of that (-1: it has none), window in ms, kind of request (full, other), the part
-- of the budget left to more urgent requests, how many requests of its kind the caller expects to send. Returns
-- milliseconds to wait, or 0 when the request may be sent and was counted; then the limit, what remains of it, and the
-- milliseconds until its reset: after a reset, more than a response can say remains.

local share, own_share, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kind, left_part, expected = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local most = cap(share)
-- A full pull of more than a window is spread over it. Urgent requests then find a free slot within a moment, so it
-- leaves them a hundredth, and not what they could need in a whole window.
local spread = kind == 'full' and expected > most
if spread then left_part = 0.01 end
local total, others = used(ALL, window), used(OTHERS, window)
local others_most = math.max(1, math.floor(most * 3 / 4))

-- When one more request fits under `limit`: at once, or when enough of the oldest have left the window.
local function turn(key, count, limit)
    if count < limit then return now end
    if limit < 1 then return now + window end
    local oldest = redis.call('ZRANGE', key, count - limit, count - limit, 'WITHSCORES')
    return tonumber(oldest[2]) + window
end

local kept = math.floor(most * left_part)
if spread then kept = math.max(1, kept) end
local at = math.max(ahead('blocked'), turn(ALL, total, most))
if kind == 'full' then
    redis.call('HSET', STATE, 'full_asked', now)
    if total - others < most - others_most then kept = 0 end
elseif now - (state('full_asked') or -window) < window then
    at = math.max(at, turn(OTHERS, others, others_most))
end
at = math.max(at, turn(ALL, total, most - kept))
if own_share >= 0 then
    local own_most = own_share > 0 and math.max(1, math.floor(most * own_share + 1e-9)) or 0
    at = math.max(at, turn(OWN, used(OWN, window), own_most))
end
if spread then at = math.max(at, ahead('full_next')) end
local reset = ahead('reset')
local remaining = reset > now and (state('remaining') or 0) or 1e15
if remaining <= kept then at = math.max(at, reset) end
if at > now then return {math.ceil(at - now), state('limit') or 0, remaining, reset - now} end

if spread then
    -- Counted on from when it was due, so that callers who ask a little late make it no slower.
    local due = math.max(state('full_next') or now, now - window / most * 4)
    redis.call('HSET', STATE, 'full_next', math.min(due, now) + window / most)
end
local serial = redis.call('HINCRBY', STATE, 'serial', 1)
local counted = {ALL}
if kind ~= 'full' then table.insert(counted, OTHERS) end
if own_share >= 0 then table.insert(counted, OWN) end
for _, key in ipairs(counted) do
    redis.call('ZADD', key, now, serial)
    redis.call('PEXPIRE', key, window * 2)
end
if reset > now then remaining = redis.call('HINCRBY', STATE, 'remaining', -1) end
return {0, state('limit') or 0, remaining, reset - now}
