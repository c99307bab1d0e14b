-- wrk: requests over all 1,000 hosts and their 10 prefixes, in an order without pattern.
local requests, at = {}, 0

init = function()
  for i = 0, 9999 do
    local n = (i * 7919) % 10000
    requests[i] = wrk.format("GET", "/p" .. n % 10 .. "/items?limit=10",
                             {["Host"] = "host-" .. math.floor(n / 10) .. ".bench.example", ["User-Agent"] = "bench/1.0",
                              ["Accept"] = "*/*"})
  end
end

request = function()
  at = (at + 1) % 10000
  return requests[at]
end
