"""The Jacobian of a network's output with respect to all its parameters along a run: its rank."""
