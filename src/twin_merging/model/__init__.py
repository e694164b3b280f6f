"""Stage assemble: the dynamic model, its gated layers, and its form on disk."""
