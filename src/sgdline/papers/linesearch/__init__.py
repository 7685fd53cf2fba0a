"""Empirically explaining SGD from a line search perspective (arXiv 2103.17132)."""
