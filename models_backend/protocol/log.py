"""Where things lie on the bus, and the scripts that change them.

A run is a hash (`spec`, `seq`, the state of each lane) and a stream (its log, whose entry ids are the event numbers:
`7-0` is event 7). Runs wait in one stream per base model, read through a consumer group. Every change of a run is one
script, so it happens whole or not at all:

- START   creates a run once, however often it is sent, and queues its lanes. Whose it is stands in every queue entry:
          the web says so, nothing that a browser sends does.
- ADD     appends one more lane, if the caller knows how many there are.
- TAKE    makes a queue entry a worker's own, if it is nobody's. Workers choose among the entries of a queue, so that
          turns can be shared out between owners; nothing is read in the order of the stream.
- PLACE   tells lanes that still wait for a worker where in the queue they are, if that has changed.
- CLAIM   gives a queue entry to a worker with a new attempt number, which from then on fences the former owner out.
- APPEND  adds events, if the writer's attempt is still the newest; an ended lane takes no more. Batches are counted, so
          that one sent again after a broken connection is not written twice.
- RELEASE says that a worker leaves a part of its own will, so that its attempt is not held against the run.
- CHECK   tells an owner what of its batches is written and which lanes were marked to stop.
- STOP    marks a lane; one that no worker has claimed ends at once, else the word goes out on `STOPS`.

Lanes are `queued`, `claimed` or `ended` here; finer states follow from the log.
"""

QUEUE_GROUP = "workers"
RECORDER_GROUP = "recorders"
ENDED = "diptych:ended"  # stream: lanes whose end the recorder has not yet written down
MODELS = "diptych:models"  # hash: model id -> ModelInfo
WORKERS = "diptych:workers"  # sorted set: worker id -> when it last lived (seconds)
STOPS = "diptych:stops"  # channel: "RUN LANE"
FIELD = "e"  # the one field of a log entry

TURN_SECONDS = 3600  # after so long without any turn it no longer matters who had the last one
KEEP_SECONDS = 7 * 24 * 3600  # a log outlives its run's last change by so much

FENCED = -1
GONE = -2
GAP = -3


def run_key(run: str) -> str:
    return f"diptych:run:{run}"


def log_key(run: str) -> str:
    return f"diptych:log:{run}"


def queue_key(base: str) -> str:
    return f"diptych:queue:{base}"


def turns_key(queue: str) -> str:
    """Hash: owner -> when one of its parts was last taken from the queue (milliseconds of the bus)."""
    return f"{queue}:turns"


def teller_key(queue: str) -> str:
    """The worker that tells places in the queue, until it has not done so for a while."""
    return f"{queue}:teller"


def worker_key(worker: str) -> str:
    return f"diptych:worker:{worker}"


# KEYS run, log, queue... ; ARGV spec, created event, keep, run id, lane count, for each queue its lanes "0,1", owner
# -> 1 when created, 0 when it was there
START = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local owner = ARGV[#KEYS + 4] or ''
redis.call('HSET', KEYS[1], 'spec', ARGV[1], 'seq', 1, 'lanes', ARGV[5], 'owner', owner)
for lane = 0, tonumber(ARGV[5]) - 1 do redis.call('HSET', KEYS[1], 'lane:' .. lane, 'queued') end
redis.call('XADD', KEYS[2], '1-0', 'e', ARGV[2])
for i = 3, #KEYS do
  redis.call('XADD', KEYS[i], '*', 'run', ARGV[4], 'lanes', ARGV[i + 3], 'owner', owner)
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""

# KEYS run, log, queue ; ARGV added event, keep, run id, lane -> event number, -1 when the lane count differs, -2 gone
ADD = """
local lanes = redis.call('HGET', KEYS[1], 'lanes')
if not lanes then return -2 end
if lanes ~= ARGV[4] then return -1 end
local n = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('HSET', KEYS[1], 'lanes', lanes + 1, 'lane:' .. lanes, 'queued')
redis.call('XADD', KEYS[2], n .. '-0', 'e', ARGV[1])
local owner = redis.call('HGET', KEYS[1], 'owner') or ''
redis.call('XADD', KEYS[3], '*', 'run', ARGV[3], 'lanes', ARGV[4], 'owner', owner)
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return n
"""

# KEYS queue, turns ; ARGV group, worker, entry id, owner, keep -> 1 it is the worker's, 0 it is another's, or gone
TAKE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1) > 0 then return 0 end
if #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'FORCE') == 0 then return 0 end
local now = redis.call('TIME')
redis.call('HSET', KEYS[2], ARGV[4], string.format('%d', now[1] * 1000 + now[2] / 1000))
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 1
"""

# KEYS run, log ; ARGV (lane, position, event)... -> how many events were written
PLACE = """
local written = 0
for i = 1, #ARGV, 3 do
  local place = 'place:' .. ARGV[i]
  local waits = redis.call('HGET', KEYS[1], 'lane:' .. ARGV[i]) == 'queued'
  if waits and redis.call('HGET', KEYS[1], place) ~= ARGV[i + 1] then
    local n = redis.call('HINCRBY', KEYS[1], 'seq', 1)
    redis.call('XADD', KEYS[2], n .. '-0', 'e', ARGV[i + 2])
    redis.call('HSET', KEYS[1], place, ARGV[i + 1])
    written = written + 1
  end
end
return written
"""

# KEYS run ; ARGV part (its lanes, "0,1")
# -> {attempt, releases, spec, owner, state and stop of each lane...}, or -2 gone
CLAIM = """
local spec = redis.call('HGET', KEYS[1], 'spec')
if not spec then return -2 end
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt:' .. ARGV[1], 1)
redis.call('HSET', KEYS[1], 'batch:' .. ARGV[1], 0)
local released = tonumber(redis.call('HGET', KEYS[1], 'released:' .. ARGV[1]) or '0')
local answer = {attempt, released, spec, redis.call('HGET', KEYS[1], 'owner') or ''}
for lane in string.gmatch(ARGV[1], '%d+') do
  local state = redis.call('HGET', KEYS[1], 'lane:' .. lane)
  if state == 'queued' then
    state = 'claimed'
    redis.call('HSET', KEYS[1], 'lane:' .. lane, state)
  end
  answer[#answer + 1] = state
  answer[#answer + 1] = redis.call('HEXISTS', KEYS[1], 'stop:' .. lane)
end
return answer
"""

# KEYS run, log, ended ; ARGV part, attempt, batch, keep, run id, then (lane, 1 if it ends the lane, event)...
# -> number of the newest event, -1 fenced, -2 gone, -3 an earlier batch is missing
APPEND = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -2 end
if redis.call('HGET', KEYS[1], 'attempt:' .. ARGV[1]) ~= ARGV[2] then return -1 end
local n = tonumber(redis.call('HGET', KEYS[1], 'seq'))
local written = tonumber(redis.call('HGET', KEYS[1], 'batch:' .. ARGV[1]))
if tonumber(ARGV[3]) <= written then return n end
if tonumber(ARGV[3]) > written + 1 then return -3 end
for i = 6, #ARGV, 3 do
  local lane = 'lane:' .. ARGV[i]
  if redis.call('HGET', KEYS[1], lane) ~= 'ended' then
    n = n + 1
    redis.call('XADD', KEYS[2], n .. '-0', 'e', ARGV[i + 2])
    if ARGV[i + 1] == '1' then
      redis.call('HSET', KEYS[1], lane, 'ended')
      redis.call('XADD', KEYS[3], '*', 'run', ARGV[5], 'lane', ARGV[i])
      redis.call('EXPIRE', KEYS[1], ARGV[4])
      redis.call('EXPIRE', KEYS[2], ARGV[4])
    end
  end
end
redis.call('HSET', KEYS[1], 'seq', n, 'batch:' .. ARGV[1], ARGV[3])
return n
"""

# KEYS run ; ARGV part, attempt -> {number of the last batch written, then stop of each lane...}, -1 fenced, -2 gone
CHECK = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -2 end
if redis.call('HGET', KEYS[1], 'attempt:' .. ARGV[1]) ~= ARGV[2] then return -1 end
local answer = {tonumber(redis.call('HGET', KEYS[1], 'batch:' .. ARGV[1]))}
for lane in string.gmatch(ARGV[1], '%d+') do
  answer[#answer + 1] = redis.call('HEXISTS', KEYS[1], 'stop:' .. lane)
end
return answer
"""

# KEYS run ; ARGV part, attempt -> 1, -1 fenced, -2 gone
RELEASE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -2 end
if redis.call('HGET', KEYS[1], 'attempt:' .. ARGV[1]) ~= ARGV[2] then return -1 end
redis.call('HINCRBY', KEYS[1], 'released:' .. ARGV[1], 1)
return 1
"""

# KEYS run, log, ended ; ARGV lane, stopped event, run id, channel
# -> 0 no such lane, 1 it had ended, 2 it ends now, 3 its worker is told, -2 gone
STOP = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -2 end
local lane = 'lane:' .. ARGV[1]
local state = redis.call('HGET', KEYS[1], lane)
if not state then return 0 end
if state == 'ended' then return 1 end
redis.call('HSET', KEYS[1], 'stop:' .. ARGV[1], 1)
if state == 'claimed' then
  redis.call('PUBLISH', ARGV[4], ARGV[3] .. ' ' .. ARGV[1])
  return 3
end
local n = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('XADD', KEYS[2], n .. '-0', 'e', ARGV[2])
redis.call('HSET', KEYS[1], lane, 'ended')
redis.call('XADD', KEYS[3], '*', 'run', ARGV[3], 'lane', ARGV[1])
return 2
"""
