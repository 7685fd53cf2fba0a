"""A Walk with SGD (arXiv 1802.08770)."""
