"""Callbacks that put a `sgdline.lines.LineMeter` into the training loops of other packages, one module each."""
