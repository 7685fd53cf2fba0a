"""SGD on the quadratic model with many eigenvalues: transient, stationary state, shell and pairs of runs."""
