"""Merges that a YAML file in mergekit's form describes: read, checked, and made by this library's methods."""
