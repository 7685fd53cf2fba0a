"""Schedules whose last iterate is an average of SGD's iterates at a constant step, tried on the quadratic model."""
