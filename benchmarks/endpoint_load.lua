-- The load of endpoint.py, for wrk: pairs that nobody has asked about, and the time of every single answer.
--
-- Run by endpoint.py; by hand, each thread with one connection, so that an answer belongs to the request before it:
--
--     LOAD_OUT=/tmp/times wrk -t 4 -c 4 -d 10s -s benchmarks/endpoint_load.lua http://127.0.0.1:8000/v1/labels
--
-- Environment: LOAD_OUT, where each thread writes "when status seconds" lines (and the end writes ".errors");
-- LOAD_PAIRS, of one request; LOAD_RATE, requests a second of one thread, 0 for the next one after the answer;
-- LOAD_RUN, text that no other run has, so that its pairs are new.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int clock, moment *now);")
local moment = ffi.new("moment")

local function now()
  ffi.C.clock_gettime(0, moment)
  return tonumber(moment.s) + tonumber(moment.ns) / 1e9
end

local titles = { "red velvet sofa", "blue oak chair", "black steel lamp", "white linen bed", "green glass table" }
local pairs_asked = tonumber(os.getenv("LOAD_PAIRS") or "1")
local rate = tonumber(os.getenv("LOAD_RATE") or "0")
local out = os.getenv("LOAD_OUT")
local run = os.getenv("LOAD_RUN") or tostring(os.time())

local threads = 0
function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

local file, asked, began
local count = 0
function init()
  file = assert(io.open(out .. "." .. number, "w"))
  asked = now() + math.fmod(number * 0.618, 1) / math.max(rate, 1)  -- not all at the same moment
  wrk.headers["Content-Type"] = "application/json"
end

if rate > 0 then
  function delay()  -- milliseconds until the next request
    asked = math.max(asked + (count > 0 and 1 / rate or 0), now())
    return math.floor((asked - now()) * 1000)
  end
end

function request()
  local items = {}
  for index = 0, pairs_asked - 1 do
    items[#items + 1] = string.format(
      '{"query":"sofa %s %d %d","product":{"title":"%s %d"}}', run, number, count, titles[index % 5 + 1], index)
  end
  count = count + 1
  began = now()
  return wrk.format("POST", nil, nil, '{"pairs":[' .. table.concat(items, ",") .. "]}")
end

function response(status)
  local ended = now()
  file:write(string.format("%.6f %d %.6f\n", began, status, ended - began))
end

function done(summary)
  local errors = summary.errors
  local failed = assert(io.open(out .. ".errors", "w"))
  failed:write(errors.connect + errors.read + errors.write)
  failed:close()
end
