"""Claims about runs that declare themselves: what is said, the number that shows it, and its threshold."""
