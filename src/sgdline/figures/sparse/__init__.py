"""Figures after Andriushchenko, Varre, Pillaud-Vivien and Flammarion 2023, arXiv 2210.05337.

"SGD with large step sizes learns sparse features".
"""
