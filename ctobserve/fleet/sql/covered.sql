-- What is asked: how many hosts and recordings, from when to when, and how many records the recorders lost.
SELECT count(DISTINCT host) AS hosts, count(*) AS recordings, min(began_wall_ns) AS began_wall_ns,
       max(ended_wall_ns) AS ended_wall_ns, CAST(sum(records_lost) AS BIGINT) AS records_lost
FROM spans
