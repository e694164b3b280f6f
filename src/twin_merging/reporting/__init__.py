"""Stages tabulate, card and compare: turn scores into tables and pages."""
