"""How the things of the package declare themselves, and what follows from it: checks, schema, typed settings."""
