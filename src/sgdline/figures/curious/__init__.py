"""Figures after arXiv 2301.02312, on trajectories of SGD and averages of its iterates; their numbering is ours."""
