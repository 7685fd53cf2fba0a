"""Gradient norms of fresh batches of several sizes, and the full-batch gradient beside them."""
