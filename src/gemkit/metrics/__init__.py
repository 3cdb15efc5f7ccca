"""Metrics: answers and references in, figures out. Knows no models and no files."""
