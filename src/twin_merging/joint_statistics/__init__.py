"""Stage joint_statistics: what a merging method finds from the training rows of all tasks, with all experts at once."""
