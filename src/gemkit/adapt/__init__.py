"""Adapters: other leaf types in the same tree of weights."""
