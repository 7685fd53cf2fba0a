"""From tables to tables: curves, fits, metrics, distances and claims (no torch)."""
