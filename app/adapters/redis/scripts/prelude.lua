-- The store's clock, read once: the only clock in here. Microseconds and milliseconds of Unix time.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)

-- Whole numbers as text. Lua writes large ones with an exponent, and adding 0 turns -0 into 0.
local function int(n)
  return string.format('%.0f', n + 0)
end
