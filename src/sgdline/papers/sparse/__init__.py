"""SGD with large step sizes learns sparse features (arXiv 2210.05337)."""
