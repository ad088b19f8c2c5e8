"""Command line `mlflow-carbon`."""
