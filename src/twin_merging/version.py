"""The version of this package, which merged models name."""

__version__ = "0.1.0"
