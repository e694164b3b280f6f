"""The tasks of the embedded suite of language models, and their base."""
