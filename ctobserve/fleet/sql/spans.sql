-- The view `spans`: each recording, and from when on its rows count.
--
-- Recordings of one boot may overlap, as incidents of a flight recorder do: what an earlier one has told is not counted again.
SELECT host, recording, boot_id, kernel, image, began_wall_ns, ended_wall_ns, records_lost,
       coalesce(max(ended_wall_ns) OVER (
         PARTITION BY host, boot_id ORDER BY began_wall_ns, ended_wall_ns, recording
         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS counts_after_wall_ns
FROM recordings
