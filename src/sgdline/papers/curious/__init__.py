"""Training trajectories, mini-batch losses and the curious role of the learning rate (arXiv 2301.02312)."""
