"""The version, readable without package metadata (a checkout on `sys.path` has none)."""

__version__ = "0.1.0.dev0"
