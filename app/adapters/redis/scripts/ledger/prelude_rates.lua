-- Images a minute and requests a day. Most scopes have neither limit: then nothing is read or written.

-- Of each scope, microseconds until its images a minute are fully recovered.
local function image_rates_spent_us(scope_keys, limits)
  return rates_spent_us(scope_keys, limits, 'images_minute', K.image_pace)
end

-- The scope whose images a minute do not allow `images` more now, and the seconds until they would;
-- no seconds where the limit is smaller than what is asked.
local function find_full_image_rate(scope_keys, limits, spent, images)
  local worst, wait = nil, 0
  for i = 1, #scope_keys do
    local limit = limits[i].images_minute
    if limit then
      if images > limit then return i end
      local over = spent[i] + images * emission_interval_us(limit) - 60000000
      if over > wait then worst, wait = i, over end
    end
  end
  if worst then return worst, math.max(1, math.min(60, math.ceil(wait / 1000000))) end
end

-- Take images from every such limit. Returns what was taken, as '<scope key> <microseconds> ...', for
-- the job's record; nil when nothing was. `spent` is brought up to date.
local function take_image_rate(scope_keys, limits, spent, images)
  local taken = {}
  for i, scope_key in ipairs(scope_keys) do
    local limit = limits[i].images_minute
    if limit then
      local us = images * emission_interval_us(limit)
      spent[i] = spent[i] + us
      redis.call('SET', K.image_pace .. scope_key, int(now_us + spent[i]), 'PX',
        math.max(1, math.ceil(spent[i] / 1000)))
      taken[#taken + 1] = scope_key .. ' ' .. int(us)
    end
  end
  return taken[1] and table.concat(taken, ' ')
end

-- Give back the share of the images that were not charged, of what a job has `taken`.
local function give_back_image_rate(taken, share)
  for scope_key, us in string.gmatch(taken, '(%S+) (%d+)') do
    local left = tonumber(redis.call('GET', K.image_pace .. scope_key) or 0) - now_us
    if left > 0 then
      local us_left = math.max(left - us * share, 0)
      redis.call('SET', K.image_pace .. scope_key, int(now_us + us_left), 'PX',
        math.max(1, math.ceil(us_left / 1000)))
    end
  end
end

-- Of each scope, the requests of this day; 0 where they are not limited.
local function requests_of_day(day, scope_keys, limits)
  local made, asked, fields = {}, {}, {}
  for i = 1, #scope_keys do
    made[i] = 0
    if limits[i].requests_day then
      asked[#asked + 1] = i
      fields[#fields + 1] = scope_keys[i]
    end
  end
  if #fields == 0 then return made end
  for n, count in ipairs(redis.call('HMGET', K.requests .. day.label, unpack(fields))) do
    made[asked[n]] = tonumber(count or 0)
  end
  return made
end

-- The first scope whose requests of this day are used up.
local function find_full_day(limits, made)
  for i = 1, #limits do
    local limit = limits[i].requests_day
    if limit and made[i] >= limit then return i end
  end
end

local function daily_refusal(day, scope)
  return { scope = scope, limit = 'requests_day', ends_ms = day.ends }
end

-- Count one request where its day is limited; `made` is brought up to date.
local function count_request_of_day(day, scope_keys, limits, made)
  local key, counted = K.requests .. day.label, false
  for i = 1, #scope_keys do
    if limits[i].requests_day then
      made[i] = redis.call('HINCRBY', key, scope_keys[i], 1)
      counted = true
    end
  end
  if counted then redis.call('PEXPIREAT', key, int(day.ends + 86400000), 'NX') end
end

-- `texts` of `limit_texts` with both rates behind the scopes that have one of them.
local function with_rates(texts, limits, image_spent, made)
  for i = 1, #limits do
    if limits[i].images_minute or limits[i].requests_day then
      texts[i + 1] = texts[i + 1] .. ' ' .. int(image_spent[i]) .. ' ' .. int(made[i])
    end
  end
  return texts
end
