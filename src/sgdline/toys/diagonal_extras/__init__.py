"""Diagonal linear networks: the valley below the iterates, their averages, and how sharp the loss is there."""
