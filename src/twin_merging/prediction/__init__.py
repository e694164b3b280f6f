"""Stage predict: what a model answers to the test rows of its suite."""
