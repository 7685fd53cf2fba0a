"""The full-batch loss between consecutive iterates, L((1 - alpha) theta_t + alpha theta_{t+1})."""
