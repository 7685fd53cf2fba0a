"""Stationary variances on the quadratic model with batches drawn with and without replacement."""
