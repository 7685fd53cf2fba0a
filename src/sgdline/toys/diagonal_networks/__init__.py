"""Diagonal linear networks with small, large and decayed steps: losses, rank and support of many chains."""
