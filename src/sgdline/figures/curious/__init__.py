"""Figures after Sandler, Zhmoginov, Vladymyrov and Miller 2023 (arXiv 2301.02312); their ids are ours."""
