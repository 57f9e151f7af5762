"""Measuring results, and showing them in a report."""
