"""What observing costs, in instructions: `make bench`. Not a test: nothing here passes or fails."""
