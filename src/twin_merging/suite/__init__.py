"""A suite: the YAML file that defines one table, and the lock of its sources."""
