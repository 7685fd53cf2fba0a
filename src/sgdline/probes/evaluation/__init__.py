"""The evaluation probe: loss and accuracy of the network as a user would use it, on every split of the data set."""
