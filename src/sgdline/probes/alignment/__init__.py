"""Cosines of mini-batch gradients: of the same batch over time, of two batches, with the full batch."""
