"""Merging methods: one registry, one driver, and a file a method family in `methods`."""
