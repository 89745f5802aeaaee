-- Where do losses cluster in time?
--
-- A row for each stretch of time in which packets were lost for one reason, on whatever hosts, without a longer pause.
--
-- Parameters:
--   pause_s = 300: seconds without such a loss that end a cluster
--   packets = 2: packets lost in it, at least
--   hosts = 1: hosts that lost some, at least; 2 or more: what hosts have in common
-- Columns:
--   reason: why conntrack refused the packets
--   began_at: the first of them, UTC
--   ended_at: the last of them, UTC
--   seconds: from the first to the last
--   hosts: hosts that lost some
--   packets: how many were lost
--   first_host: the host that lost the first of them
-- Chart: time began_at packets reason
WITH lost AS (
  SELECT e.host, e.reason, e.ts, e.wall_ns,
         e.wall_ns - lag(e.wall_ns) OVER (PARTITION BY e.reason ORDER BY e.wall_ns) AS pause_ns
  FROM events e JOIN spans s ON e.host = s.host AND e.recording = s.recording
  WHERE e.event = 'drop' AND e.reason NOT IN ('invalid', 'error') AND e.wall_ns > s.counts_after_wall_ns
), numbered AS (
  SELECT host, reason, ts, wall_ns,
         sum(CASE WHEN pause_ns <= $pause_s * 1e9 THEN 0 ELSE 1 END) OVER (PARTITION BY reason ORDER BY wall_ns) AS number
  FROM lost
)
SELECT reason, min(ts) AS began_at, max(ts) AS ended_at, round((max(wall_ns) - min(wall_ns)) / 1e9, 1) AS seconds,
       count(DISTINCT host) AS hosts, count(*) AS packets, substring(min(ts || ' ' || host), 32, 128) AS first_host
FROM numbered
GROUP BY reason, number
HAVING count(*) >= $packets AND count(DISTINCT host) >= $hosts
ORDER BY packets DESC, began_at, reason
