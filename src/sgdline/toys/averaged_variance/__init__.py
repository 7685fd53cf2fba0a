"""Stationary variances of SGD's iterates and of their averages on the quadratic model: predicted and simulated."""
