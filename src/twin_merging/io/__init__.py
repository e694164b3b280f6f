"""Reads and writes files: tensors by ranges of rows, masks and text. A file appears whole or not at all."""
