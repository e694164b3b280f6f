"""A task's rows: what they must hold, and how they become batches."""
