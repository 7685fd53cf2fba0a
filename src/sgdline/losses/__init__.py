"""Losses: what a run is trained with, and what all of its probes measure."""
