"""The line at each ESXi host: at most two disks are sent to it at once, by all workers together.

It is kept in Redis, by its clock. Whoever stands in line says so every second; a worker that was
killed loses its place after a minute.
"""

import logging

from redis.exceptions import RedisError

from console.identity import this_core
from console.redis_link import connect

logger = logging.getLogger(__name__)

PLACE_SECONDS = 60

# The first key has the uploads by place, the second by the time until which each keeps it. A time
# further ahead than any upload asks for is from before the clock was set back.
_AHEAD = """
local place_ms = tonumber(ARGV[2])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
for _, range in ipairs({{'-inf', now_ms}, {now_ms + place_ms + 1, '+inf'}}) do
  for _, lost in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], range[1], range[2])) do
    redis.call('ZREM', KEYS[1], lost)
    redis.call('ZREM', KEYS[2], lost)
  end
end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  redis.call('ZADD', KEYS[1], last[2] and last[2] + 1 or 1, ARGV[1])
end
redis.call('ZADD', KEYS[2], now_ms + place_ms, ARGV[1])
return redis.call('ZRANK', KEYS[1], ARGV[1])
"""


class SharedUploadLine:
    """The line of all workers of this core; see `vsphere.UploadLine`.

    While Redis is away, nobody waits: a failover is not held up by it.
    """

    def __init__(self, place_seconds: float = PLACE_SECONDS) -> None:
        self._redis = connect()
        self._ahead = self._redis.register_script(_AHEAD)
        self._place_ms = int(place_seconds * 1000)

    def ahead(self, host: str, upload: str) -> int:
        """Return how many uploads to the host came before, and take or keep the place."""
        try:
            return int(self._ahead(keys=_keys(host), args=[upload, self._place_ms]))
        except RedisError as error:
            logger.warning("upload line unknown host=%s error=%s", host, error)
            return 0

    def leave(self, host: str, upload: str) -> None:
        """Give the place up."""
        try:
            for key in _keys(host):
                self._redis.zrem(key, upload)
        except RedisError as error:
            logger.warning("upload line not left host=%s error=%s", host, error)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


def _keys(host: str) -> list[str]:
    line = f"understudy:{this_core().id}:uploads:{host.lower()}"
    return [line, f"{line}:until"]
