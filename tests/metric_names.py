"""Which metrics tests of one kind of target can all run."""

from tunemerge.stats.metrics import METRICS

# Targets of one number: the others have tests with rows of their own.
ONE_NUMBER = [name for name, metric in METRICS if metric.prediction in ("classes", "value")]
