-- Which hosts have other settings than the rest?
--
-- A row for each network namespace and setting with a value that few hosts have, as it was last.
--
-- Parameters:
--   rare = 0.1: share of the hosts with that setting that have such a value, at most
-- Columns:
--   host: which one
--   netns_name: the network namespace
--   name: the setting
--   value: its value there
--   usual: the value that most hosts have
--   hosts: hosts that have this value
--   hosts_usual: hosts that have the usual one
--   since_at: when this value was first seen, UTC
-- Chart: bars name hosts value
WITH told AS (
  SELECT t.host, coalesce(t.netns_name, CAST(t.netns AS STRING)) AS netns_name, t.name, t.value, t.ts,
         row_number() OVER (PARTITION BY t.host, coalesce(t.netns_name, CAST(t.netns AS STRING)), t.name
                            ORDER BY t.wall_ns DESC, t.recording) AS place,
         min(t.ts) OVER (PARTITION BY t.host, coalesce(t.netns_name, CAST(t.netns AS STRING)), t.name, t.value) AS since_at
  FROM settings t JOIN spans s ON t.host = s.host AND t.recording = s.recording
  WHERE t.name <> 'nf_conntrack_count'
), latest AS (
  SELECT host, netns_name, name, value, since_at FROM told WHERE place = 1
), of_values AS (
  SELECT name, value, count(DISTINCT host) AS hosts FROM latest GROUP BY name, value
), of_names AS (
  SELECT name, count(DISTINCT host) AS hosts FROM latest GROUP BY name
), usual AS (
  SELECT name, value, hosts FROM (
    SELECT name, value, hosts, row_number() OVER (PARTITION BY name ORDER BY hosts DESC, value) AS place FROM of_values
  ) placed WHERE place = 1
)
SELECT l.host, l.netns_name, l.name, l.value, u.value AS usual, v.hosts, u.hosts AS hosts_usual, l.since_at
FROM latest l
JOIN of_values v ON l.name = v.name AND l.value IS NOT DISTINCT FROM v.value
JOIN of_names n ON l.name = n.name
JOIN usual u ON l.name = u.name
WHERE l.value IS DISTINCT FROM u.value AND v.hosts <= $rare * n.hosts
ORDER BY v.hosts, l.name, l.value, l.host, l.netns_name
