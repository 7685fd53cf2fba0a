"""Figures after Sandler, Zhmoginov, Vladymyrov and Miller 2023, "Training trajectories, mini-batch losses ..."."""
