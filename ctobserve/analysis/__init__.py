"""Pure functions: entries or counters in, a report out. Nothing here reads the kernel or prints."""
