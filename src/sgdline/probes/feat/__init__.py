"""The features of a network along a run: how many units of a layer are active, and how many do the same."""
