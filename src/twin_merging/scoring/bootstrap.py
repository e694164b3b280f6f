"""How intervals are found: what is said of them too."""

RESAMPLES = 10_000
LEVEL = 0.95
