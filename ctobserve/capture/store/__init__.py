"""The file of a recording: columns of rows, and facts beside them, in SQLite that nobody need trust (docs/recording.md)."""
