"""Papers: each is a folder with its figures, its claims and its published numbers."""
