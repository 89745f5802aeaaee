-- Which hosts lost packets, why, and when?
--
-- A row for each host and reason, most packets first. Packets found bad (invalid, error) are not among them: a rule drops those.
--
-- Parameters:
--   least = 1: packets that a host lost for that reason, at least
-- Columns:
--   host: which one
--   reason: why conntrack refused the packets
--   packets: how many were lost
--   namespaces: network namespaces that lost some
--   hours: hours of the clock in which some were lost
--   worst_hour: the one with most of them, UTC
--   in_worst_hour: packets lost in that hour
--   first_at: the first of them, UTC
--   last_at: the last of them, UTC
-- Chart: bars host packets reason
WITH lost AS (
  SELECT e.host, e.reason, substring(e.ts, 1, 13) AS hour, e.netns, e.ts
  FROM events e JOIN spans s ON e.host = s.host AND e.recording = s.recording
  WHERE e.event = 'drop' AND e.reason NOT IN ('invalid', 'error') AND e.wall_ns > s.counts_after_wall_ns
), of_hours AS (
  SELECT host, reason, hour, count(*) AS packets,
         row_number() OVER (PARTITION BY host, reason ORDER BY count(*) DESC, hour) AS place
  FROM lost GROUP BY host, reason, hour
), worst AS (
  SELECT host, reason, count(*) AS hours, max(CASE WHEN place = 1 THEN hour || ':00Z' END) AS worst_hour,
         max(packets) AS in_worst_hour
  FROM of_hours GROUP BY host, reason
), whole AS (
  SELECT host, reason, count(*) AS packets, count(DISTINCT netns) AS namespaces, min(ts) AS first_at, max(ts) AS last_at
  FROM lost GROUP BY host, reason
)
SELECT t.host, t.reason, t.packets, t.namespaces, w.hours, w.worst_hour, w.in_worst_hour, t.first_at, t.last_at
FROM whole t JOIN worst w ON t.host = w.host AND t.reason = w.reason
WHERE t.packets >= $least
ORDER BY t.packets DESC, t.host, t.reason
