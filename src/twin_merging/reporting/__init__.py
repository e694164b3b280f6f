"""Stages tabulate, card and compare: scores as tables and pages."""
