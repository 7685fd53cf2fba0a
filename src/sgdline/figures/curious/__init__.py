"""Figures after arXiv 2301.02312 on trajectories and averages of SGD; their ids are ours."""
