"""Grid carbon intensity: zones, providers and the chain that falls back with a label."""
