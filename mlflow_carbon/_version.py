"""Versions, readable without package metadata: a checkout on `sys.path` has none."""

__version__ = "0.1.0.dev0"

SCHEMA = "1.0"
"""Of journals and of the documents stored with a run."""
