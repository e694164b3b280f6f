"""What the workflow asks of a suite: settings and inputs of its jobs, and its targets, as pure functions."""
