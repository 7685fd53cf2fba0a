"""What the papers say, tested on tables: one module per paper, and how numbers are judged."""
