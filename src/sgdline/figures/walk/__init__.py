"""Figures after Xing, Arpit, Tsirigotis and Bengio 2018, "A Walk with SGD"."""
