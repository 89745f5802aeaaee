-- What changed after another kernel or another image?
--
-- A row for each such change, of however many hosts, and each thing that is not as before: packets lost by reason, new entries,
-- verdicts, settings. Before and after are the stretches of time next to the change, up to the one before and the one after it.
--
-- Parameters:
--   times = 2.0: a number that became so many times as large, or as small, has changed
--   least = 10: unless it was smaller than this before and is after
-- Columns:
--   kernel_before: uname -r
--   kernel_after: uname -r
--   image_before: what the hosts were installed from
--   image_after: what they were installed from then
--   hosts: hosts of which this is said
--   what: lost per day: REASON; new entries per day; verdict ID: percent of the recordings; setting NAME
--   before: mean of these hosts; of a setting, its value in most network namespaces
--   after: the same after the change
-- Chart: bars what hosts kernel_after
WITH ordered AS (
  SELECT host, recording, kernel, image, began_wall_ns, ended_wall_ns, counts_after_wall_ns,
         row_number() OVER (PARTITION BY host ORDER BY began_wall_ns, recording) AS place,
         lag(kernel) OVER (PARTITION BY host ORDER BY began_wall_ns, recording) AS kernel_before,
         lag(image) OVER (PARTITION BY host ORDER BY began_wall_ns, recording) AS image_before
  FROM spans
), parts AS (
  SELECT host, recording, kernel, image, began_wall_ns, ended_wall_ns, counts_after_wall_ns,
         sum(CASE WHEN place > 1 AND (kernel IS DISTINCT FROM kernel_before OR image IS DISTINCT FROM image_before) THEN 1 ELSE 0 END)
           OVER (PARTITION BY host ORDER BY place) AS part
  FROM ordered
), stretches AS (
  SELECT host, part, max(kernel) AS kernel, max(image) AS image, count(*) AS recordings,
         sum(CASE WHEN ended_wall_ns <= counts_after_wall_ns THEN 0
                  WHEN counts_after_wall_ns > began_wall_ns THEN ended_wall_ns - counts_after_wall_ns
                  ELSE ended_wall_ns - began_wall_ns END) / 8.64e13 AS days
  FROM parts GROUP BY host, part
), changes AS (
  SELECT b.host, b.part AS part_before, a.part AS part_after, b.kernel AS kernel_before, a.kernel AS kernel_after,
         b.image AS image_before, a.image AS image_after, b.days AS days_before, a.days AS days_after,
         b.recordings AS recordings_before, a.recordings AS recordings_after
  FROM stretches b JOIN stretches a ON b.host = a.host AND b.part + 1 = a.part
), happened AS (
  SELECT e.host, p.part, CASE WHEN e.event = 'drop' THEN 'lost per day: ' || e.reason ELSE 'new entries per day' END AS what,
         count(*) AS number, 0 AS is_verdict
  FROM events e JOIN parts p ON e.host = p.host AND e.recording = p.recording
  WHERE e.wall_ns > p.counts_after_wall_ns
    AND (e.event = 'insert' OR (e.event = 'drop' AND e.reason NOT IN ('invalid', 'error')))
    AND e.host IN (SELECT host FROM changes)
  GROUP BY e.host, p.part, CASE WHEN e.event = 'drop' THEN 'lost per day: ' || e.reason ELSE 'new entries per day' END
  UNION ALL
  SELECT v.host, p.part, 'verdict ' || v.id AS what, count(DISTINCT v.recording) AS number, 1 AS is_verdict
  FROM verdicts v JOIN parts p ON v.host = p.host AND v.recording = p.recording
  WHERE v.severity <> 'healthy'
  GROUP BY v.host, p.part, v.id
), asked AS (
  SELECT DISTINCT c.kernel_before, c.kernel_after, c.image_before, c.image_after, h.what, h.is_verdict
  FROM changes c JOIN happened h ON c.host = h.host AND h.part IN (c.part_before, c.part_after)
), numbers AS (
  SELECT c.kernel_before, c.kernel_after, c.image_before, c.image_after, q.what, count(*) AS hosts,
         avg(coalesce(CASE WHEN q.is_verdict = 1 THEN 100e0 * b.number / c.recordings_before
                           ELSE b.number / nullif(c.days_before, 0) END, 0e0)) AS before,
         avg(coalesce(CASE WHEN q.is_verdict = 1 THEN 100e0 * a.number / c.recordings_after
                           ELSE a.number / nullif(c.days_after, 0) END, 0e0)) AS after
  FROM changes c
  JOIN asked q ON c.kernel_before IS NOT DISTINCT FROM q.kernel_before AND c.kernel_after IS NOT DISTINCT FROM q.kernel_after
    AND c.image_before IS NOT DISTINCT FROM q.image_before AND c.image_after IS NOT DISTINCT FROM q.image_after
  LEFT JOIN happened b ON c.host = b.host AND c.part_before = b.part AND q.what = b.what
  LEFT JOIN happened a ON c.host = a.host AND c.part_after = a.part AND q.what = a.what
  GROUP BY c.kernel_before, c.kernel_after, c.image_before, c.image_after, q.what
), in_namespaces AS (
  SELECT host, part, netns, name, value FROM (
    SELECT t.host, p.part, t.netns, t.name, t.value,
           row_number() OVER (PARTITION BY t.host, p.part, t.recording, t.netns, t.name ORDER BY t.wall_ns DESC) AS place
    FROM settings t JOIN parts p ON t.host = p.host AND t.recording = p.recording
    WHERE t.name <> 'nf_conntrack_count' AND t.host IN (SELECT host FROM changes)
  ) placed WHERE place = 1
), values_of AS (
  SELECT host, part, name, value FROM (
    SELECT host, part, name, value,
           row_number() OVER (PARTITION BY host, part, name ORDER BY count(*) DESC, value) AS place
    FROM in_namespaces GROUP BY host, part, name, value
  ) placed WHERE place = 1
)
SELECT kernel_before, kernel_after, image_before, image_after, hosts, what, CAST(CAST(round(before) AS BIGINT) AS STRING) AS before,
       CAST(CAST(round(after) AS BIGINT) AS STRING) AS after
FROM numbers
WHERE (after >= $times * before OR before >= $times * after) AND (after >= $least OR before >= $least)
UNION ALL
SELECT c.kernel_before, c.kernel_after, c.image_before, c.image_after, count(*) AS hosts, 'setting ' || b.name AS what,
       b.value AS before, a.value AS after
FROM changes c
JOIN values_of b ON c.host = b.host AND c.part_before = b.part
JOIN values_of a ON c.host = a.host AND c.part_after = a.part AND a.name = b.name
WHERE a.value IS DISTINCT FROM b.value
GROUP BY c.kernel_before, c.kernel_after, c.image_before, c.image_after, b.name, b.value, a.value
ORDER BY hosts DESC, kernel_before, kernel_after, image_before, image_after, what, before, after
