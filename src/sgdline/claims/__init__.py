"""Claims: a number of tables, held against a threshold; their form, how they are judged, and those that have a name."""
