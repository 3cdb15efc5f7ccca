"""Answers → scores, tables and reports."""
