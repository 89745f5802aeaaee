"""Evidence, rules, verdicts, and the proof that our table is the kernel's."""
