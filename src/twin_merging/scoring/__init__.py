"""Metrics of the suites: plain functions, and the `evaluate` module that scores with them."""
