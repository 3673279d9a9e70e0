-- wrk's side of the endpoint's bench: reads one pre-made request after another, and tells what it saw as one line of JSON.
-- Arguments: the file of requests, and the size of each.
local file, size

function init(args)
    file = assert(io.open(args[1], "rb"))
    file:setvbuf("full", 65536)
    size = tonumber(args[2])
end

function request()
    local next = file:read(size)
    if next == nil then
        error("no request is left: the file was too short")
    end
    return next
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        e.connect + e.read + e.write + e.status + e.timeout
    ))
end
