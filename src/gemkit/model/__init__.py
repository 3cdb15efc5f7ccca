"""What Gemma is: configurations, weights and pure functions over a tree of arrays."""
