"""Diagonal linear networks on the plane of start, sparse solution and gradient flow's end."""
