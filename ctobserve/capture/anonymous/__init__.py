"""A recording for others to read: its structure and what it proves, without who it is about."""
