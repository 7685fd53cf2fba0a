"""Analyses of runs, one module each: what an analysis reads, which settings it uses, and the table that it makes."""
