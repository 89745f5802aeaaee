"""The commands: each parses its options, opens a capture, has its document collected and rendered, and says how it ended."""
