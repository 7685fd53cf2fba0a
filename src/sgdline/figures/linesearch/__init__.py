"""Figures after Mutschler and Zell 2021, "Empirically explaining SGD from a line search perspective"."""
