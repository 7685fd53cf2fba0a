"""Averages of a run's iterates, evaluated as a user would use them: EMA, SWA and two points."""
