-- Which hosts will be full within a day, at their growth?
--
-- A row for each network namespace of each host's last boot that has reached its limit, or whose entries, along a straight line
-- through all its readings, will have reached it in time.
--
-- Parameters:
--   hours = 24: full after so many hours, at most, counted from the last reading
--   readings = 3: readings of the table, at least
--   span_hours = 0.5: from the first of them to the last, at least
--   fit = 0.5: how much of what varies the line explains (r squared), at least: 1 is all, 0 nothing
-- Columns:
--   host: which one
--   netns_name: the network namespace
--   owner: who owns that
--   entries: how many it had at the last reading
--   entries_limit: how many it may have
--   per_hour: entries that each hour adds, by the line
--   hours_left: from the last reading until it is full; 0: it is
--   readings: readings of the table
--   first_at: the first of them, UTC
--   last_at: the last of them, UTC
-- Chart: bars host hours_left netns_name
WITH readings AS (
  SELECT n.host, n.boot_id, n.recording, n.netns, n.netns_name, n.owner, n.ts, n.wall_ns, n.entries, n.entries_limit,
         min(n.wall_ns) OVER (PARTITION BY n.host) AS origin_ns
  FROM namespaces n JOIN spans s ON n.host = s.host AND n.recording = s.recording
  WHERE n.entries IS NOT NULL AND n.entries_limit > 0
), latest AS (
  SELECT host, boot_id, recording FROM (
    SELECT host, boot_id, recording, row_number() OVER (PARTITION BY host ORDER BY wall_ns DESC, recording) AS place
    FROM readings
  ) placed WHERE place = 1
), numbered AS (
  SELECT r.host, r.netns, r.recording, r.netns_name, r.owner, r.ts, r.wall_ns, r.entries, r.entries_limit,
         (r.wall_ns - r.origin_ns) / 3.6e12 AS hour, l.recording AS last_recording,
         row_number() OVER (PARTITION BY r.host, r.netns ORDER BY r.wall_ns DESC, r.recording) AS place
  FROM readings r JOIN latest l ON r.host = l.host AND r.boot_id IS NOT DISTINCT FROM l.boot_id
), lines AS (
  SELECT host, netns, max(CASE WHEN place = 1 THEN netns_name END) AS netns_name, max(CASE WHEN place = 1 THEN owner END) AS owner,
         max(CASE WHEN place = 1 THEN entries END) AS entries, max(CASE WHEN place = 1 THEN entries_limit END) AS entries_limit,
         max(CASE WHEN recording = last_recording THEN 1 ELSE 0 END) AS is_there,
         count(*) AS readings, max(hour) - min(hour) AS span_hours, min(ts) AS first_at, max(ts) AS last_at,
         regr_slope(CAST(entries AS DOUBLE), hour) AS per_hour, regr_r2(CAST(entries AS DOUBLE), hour) AS fit
  FROM numbered GROUP BY host, netns
), left_over AS (
  SELECT host, netns_name, owner, entries, entries_limit, per_hour, readings, first_at, last_at,
         CASE WHEN entries >= entries_limit THEN 0e0
              WHEN per_hour > 0 AND readings >= $readings AND span_hours >= $span_hours AND fit >= $fit
              THEN (entries_limit - entries) / per_hour END AS hours_left
  FROM lines WHERE is_there = 1
)
SELECT host, netns_name, owner, entries, entries_limit, round(per_hour, 1) AS per_hour, round(hours_left, 1) AS hours_left,
       readings, first_at, last_at
FROM left_over
WHERE hours_left <= $hours
ORDER BY hours_left, host, netns_name
