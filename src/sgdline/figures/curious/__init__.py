"""Figures after Sandler, Zhmoginov, Vladymyrov and Miller 2023, arXiv 2301.02312.

"Training trajectories, mini-batch losses and the curious role of the learning rate".
"""
