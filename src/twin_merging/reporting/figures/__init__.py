"""Stage figures: one style, one file for what goes into every figure, and one file a figure with a function `draw`."""
