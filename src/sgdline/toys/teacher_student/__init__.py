"""ReLU networks that learn a smaller one from few samples, with step sizes that are small or large."""
