"""One view of conntrack over a stretch of time: records decoded to events, the table followed and read."""
