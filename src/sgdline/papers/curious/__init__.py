"""The paper `curious`, see README."""
