"""Stationary variances with heavy-ball momentum on the quadratic model: predicted and simulated."""
