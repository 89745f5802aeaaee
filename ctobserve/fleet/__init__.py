"""Recordings of many hosts as one dataset: its tables and layout, who writes a recording into it, who finds what is there."""
