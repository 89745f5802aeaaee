-- Which sources fill which hosts?
--
-- A row for each network namespace and network of sources (/24 of IPv4, /64 of IPv6) that holds much of its table, at the reading of
-- the table at which it held most.
--
-- Parameters:
--   entries = 100: entries of that network, at least
--   of_entries = 0.5: its share of the namespace's entries, at least
--   of_limit = 0.25: its share of what the namespace may have, at least; 0: also where no limit is known
-- Columns:
--   host: which one
--   netns_name: the network namespace
--   owner: who owns that
--   source: the network that the original source addresses are of
--   entries: how many it held
--   addresses: source addresses of that network among them
--   percent_of_entries: of all entries of the namespace
--   percent_of_limit: of its nf_conntrack_max
--   at: when the table was read, UTC
--   readings: readings of the table at which it held as much as the parameters ask
-- Chart: bars host percent_of_limit source
WITH split AS (
  SELECT n.host, n.recording, n.number, n.netns, n.netns_name, n.owner, n.ts, n.l3, n."original.src" AS src,
         split_part(n."original.src", '::', 1) AS head, split_part(n."original.src", '::', 2) AS tail
  FROM snapshots n JOIN spans s ON n.host = s.host AND n.recording = s.recording
), counted AS (
  SELECT host, recording, number, netns, l3, src, head, tail, max(netns_name) AS netns_name, max(owner) AS owner, max(ts) AS ts,
         count(*) AS entries
  FROM split GROUP BY host, recording, number, netns, l3, src, head, tail
), networks AS (
  SELECT host, recording, number, netns, netns_name, owner, ts, entries, src,
         CASE WHEN l3 = 'ipv4' THEN regexp_extract(src, '^([0-9]+[.][0-9]+[.][0-9]+)[.]', 1) || '.0/24'
              WHEN src LIKE '%::%' THEN
                regexp_replace(regexp_extract(
                  CASE WHEN head = '' THEN '' ELSE head || ':' END
                    || repeat('0:', CAST(8
                         - CASE WHEN head = '' THEN 0 ELSE length(head) - length(replace(head, ':', '')) + 1 END
                         - CASE WHEN tail = '' THEN 0 ELSE length(tail) - length(replace(tail, ':', '')) + 1 END AS INT))
                    || tail || ':', '^(([0-9a-f]+:){4})', 1), '(^0)?(:0)*:$', '') || '::/64'
              ELSE regexp_extract(src, '^([0-9a-f]+:[0-9a-f]+:[0-9a-f]+:[0-9a-f]+)', 1) || '::/64' END AS source
  FROM counted
), held AS (
  SELECT host, recording, number, netns, max(netns_name) AS netns_name, max(owner) AS owner, max(ts) AS ts, source,
         CAST(sum(entries) AS BIGINT) AS entries, count(*) AS addresses
  FROM networks GROUP BY host, recording, number, netns, source
), whole AS (
  SELECT host, recording, number, netns, CAST(sum(entries) AS BIGINT) AS entries
  FROM held GROUP BY host, recording, number, netns
), limits AS (
  SELECT host, recording, netns, max(entries_limit) AS entries_limit FROM namespaces GROUP BY host, recording, netns
), much AS (
  SELECT h.host, h.netns, h.netns_name, h.owner, h.source, h.entries, h.addresses, h.ts,
         100.0e0 * h.entries / w.entries AS percent_of_entries, 100.0e0 * h.entries / nullif(l.entries_limit, 0) AS percent_of_limit,
         count(*) OVER (PARTITION BY h.host, h.netns, h.source) AS readings,
         row_number() OVER (PARTITION BY h.host, h.netns, h.source ORDER BY h.entries DESC, h.ts, h.recording) AS place
  FROM held h
  JOIN whole w ON h.host = w.host AND h.recording = w.recording AND h.number = w.number AND h.netns = w.netns
  LEFT JOIN limits l ON h.host = l.host AND h.recording = l.recording AND h.netns = l.netns
  WHERE h.entries >= $entries AND h.entries >= $of_entries * w.entries
    AND ($of_limit = 0 OR h.entries >= $of_limit * l.entries_limit)
)
SELECT host, netns_name, owner, source, entries, addresses, round(percent_of_entries, 1) AS percent_of_entries,
       round(percent_of_limit, 1) AS percent_of_limit, ts AS at, readings
FROM much WHERE place = 1
ORDER BY entries DESC, host, netns_name, source
