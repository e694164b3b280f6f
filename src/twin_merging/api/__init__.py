"""One call without a workflow: merge, twin, export, answer, and the commands of `python -m twin_merging`."""
