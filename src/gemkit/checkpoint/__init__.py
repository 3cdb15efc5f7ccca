"""Files ↔ weights: a names table times format readers and writers."""
