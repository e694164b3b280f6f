"""Stages tabulate, card, compare and snapshot: turn scores into tables and pages."""
