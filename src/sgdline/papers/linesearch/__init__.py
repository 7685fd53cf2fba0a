"""The paper `linesearch`, see README."""
