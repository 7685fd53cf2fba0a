"""The paper `sparse`, see README."""
