"""Training: rows, packing, loss, steps and the one loop."""
