"""The Hessian of the full-batch loss along a run: largest and smallest eigenvalue, spectral norm."""
