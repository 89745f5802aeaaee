"""Reports and entries as lines: text for people, JSON for programs."""
