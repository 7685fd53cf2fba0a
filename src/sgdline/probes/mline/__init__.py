"""Lines in many directions from one position: those of all batches of the epoch that the position lies in."""
