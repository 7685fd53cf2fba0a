"""How far a run moves from where it was at an update, along stiff and along flat directions."""
