"""A ReLU network with one hidden layer that fits twelve points, with small or large steps."""
