"""What all figures share: how they look, the sheet, series along a run, runs side by side."""
