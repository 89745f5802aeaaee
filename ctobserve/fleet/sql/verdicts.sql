-- Which verdicts were given, on how many hosts, over time?
--
-- A row for each hour in which recordings began and each verdict on one of them. `healthy` is none: nothing is wrong there.
--
-- Parameters:
--   severity = warning: the mildest that counts: notice, warning or critical
-- Columns:
--   hour: of the begin of what was judged, UTC
--   severity: critical: packets were lost; warning; notice: worth knowing
--   id: the verdict
--   hosts: hosts that it was given on
--   recordings: recordings that it was given on
--   first_host: one of the hosts, the first by its name
--   sentence: what is wrong there
-- Chart: time hour hosts id
WITH given AS (
  SELECT v.host, v.recording, v.id, v.severity, v.sentence,
         v.date || 'T' || lpad(CAST(CAST((v.from_wall_ns % 86400000000000 - v.from_wall_ns % 3600000000000) / 3600000000000 AS INT)
                                    AS STRING), 2, '0') || ':00Z' AS hour
  FROM verdicts v JOIN spans s ON v.host = s.host AND v.recording = s.recording
  WHERE v.severity = 'critical' OR (v.severity = 'warning' AND $severity <> 'critical')
     OR (v.severity = 'notice' AND $severity = 'notice')
), placed AS (
  SELECT host, recording, id, severity, sentence, hour,
         row_number() OVER (PARTITION BY hour, id, severity ORDER BY host, recording, sentence) AS place
  FROM given
)
SELECT hour, severity, id, count(DISTINCT host) AS hosts, count(DISTINCT recording) AS recordings, min(host) AS first_host,
       max(CASE WHEN place = 1 THEN sentence END) AS sentence
FROM placed
GROUP BY hour, severity, id
ORDER BY hour, CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, hosts DESC, id
