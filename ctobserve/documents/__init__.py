"""What each command says: a frozen dataclass, and how it is collected. JSON, its schema and docs/json.md come from these."""
