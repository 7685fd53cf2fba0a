"""The paper `walk`, see README."""
