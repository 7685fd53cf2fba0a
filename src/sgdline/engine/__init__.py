"""The line engine: per-sample losses of any network along lines in its parameter space, fast and exact."""
