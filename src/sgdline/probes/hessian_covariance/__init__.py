"""The exact Hessian of a small network beside the covariance of its gradients, in float64."""
