"""The commands: each parses its options, wires observer, analysis and render, and says how it ended."""
