"""The reports of a run: metrics, loggers, progress and summary."""
