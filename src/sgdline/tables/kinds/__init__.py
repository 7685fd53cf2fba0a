"""One module per kind of table: its name, the rule that writes it and its columns."""
