"""Losses of a few fixed batches along the run, and on the straight way from the iterate measured before."""
