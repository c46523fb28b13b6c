-- wrk script: POSTs the lines of a file as JSON bodies, in turn, and ends with one line of JSON.
-- wrk -s post.lua URL -- FILE
-- Percentiles are those of wrk, which adds the requests that a stalled connection would have sent meanwhile: one stall
-- of 100 ms weighs as much as it would on clients that do not wait.

local requests, last = {}, 0

function init(arguments)
  local headers = { ["Content-Type"] = "application/json" }
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "max_ms": %f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
