"""Gradient descent on a two-dimensional quadratic: which learning rates creep, bounce and diverge."""
