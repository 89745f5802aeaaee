-- Which services churn: have new entries all the time, which soon leave?
--
-- A row for each protocol and original destination port, those with most new entries per second and host first.
--
-- Parameters:
--   least = 100: new entries, at least
--   per_s = 25.0: new entries per second that its hosts were recorded, at least
--   short_s = 120.0: seconds after which an entry that left was short-lived no more
--   percent_short = 50: of those that left, so many were short-lived, at least
-- Columns:
--   proto: protocol
--   port: original destination port
--   hosts: hosts that had such entries
--   destinations: original destination addresses
--   new_entries: entries that came
--   new_per_s: the same per second that these hosts were recorded, for each of them
--   left_entries: entries that left whose age is known
--   percent_short: of those, how many had lived shorter than short_s
--   busiest_host: the host with most of them
--   on_busiest: new entries there
-- Chart: bars port new_per_s proto
WITH told AS (
  SELECT e.host, e.proto, e."original.dport" AS port, e."original.dst" AS dst, e.event, e.age_s
  FROM events e JOIN spans s ON e.host = s.host AND e.recording = s.recording
  WHERE e.event IN ('insert', 'destroy') AND e.wall_ns > s.counts_after_wall_ns AND e."original.dport" IS NOT NULL
), pairs AS (
  SELECT host, proto, port, dst, count(CASE WHEN event = 'insert' THEN 1 END) AS new_entries,
         count(CASE WHEN event = 'destroy' THEN age_s END) AS left_entries,
         count(CASE WHEN event = 'destroy' AND age_s < $short_s THEN 1 END) AS short_entries
  FROM told GROUP BY host, proto, port, dst
), on_hosts AS (
  SELECT host, proto, port, CAST(sum(new_entries) AS BIGINT) AS new_entries, CAST(sum(left_entries) AS BIGINT) AS left_entries,
         CAST(sum(short_entries) AS BIGINT) AS short_entries
  FROM pairs GROUP BY host, proto, port
), placed AS (
  SELECT host, proto, port, new_entries, left_entries, short_entries,
         row_number() OVER (PARTITION BY proto, port ORDER BY new_entries DESC, host) AS place
  FROM on_hosts WHERE new_entries > 0
), seen AS (
  SELECT host, sum(ended_wall_ns - CASE WHEN counts_after_wall_ns > began_wall_ns THEN counts_after_wall_ns
                                        ELSE began_wall_ns END) / 1e9 AS seconds
  FROM spans WHERE ended_wall_ns > counts_after_wall_ns GROUP BY host
), services AS (
  SELECT p.proto, p.port, count(*) AS hosts, CAST(sum(p.new_entries) AS BIGINT) AS new_entries,
         sum(p.new_entries) / nullif(sum(v.seconds), 0) AS new_per_s, CAST(sum(p.left_entries) AS BIGINT) AS left_entries,
         100.0e0 * sum(p.short_entries) / nullif(sum(p.left_entries), 0) AS percent_short,
         max(CASE WHEN p.place = 1 THEN p.host END) AS busiest_host, max(p.new_entries) AS on_busiest
  FROM placed p JOIN seen v ON p.host = v.host
  GROUP BY p.proto, p.port
), addresses AS (
  SELECT proto, port, count(DISTINCT dst) AS destinations FROM pairs WHERE new_entries > 0 GROUP BY proto, port
)
SELECT s.proto, s.port, s.hosts, a.destinations, s.new_entries, round(s.new_per_s, 2) AS new_per_s, s.left_entries,
       round(s.percent_short, 1) AS percent_short, s.busiest_host, s.on_busiest
FROM services s JOIN addresses a ON s.proto = a.proto AND s.port = a.port
WHERE s.new_entries >= $least AND s.new_per_s >= $per_s AND s.percent_short >= $percent_short
ORDER BY s.new_per_s DESC, s.proto, s.port
