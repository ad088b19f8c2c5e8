"""Reference projects that use the public API only."""
