"""One file per kind of measurement along a run; `line` is the engine."""
