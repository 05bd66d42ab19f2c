"""Predictions of models, which all metrics are computed from.

The package can be called: `tunemerge.evaluate("model", "rows.csv")` is `single.evaluate`.
"""

from tunemerge.callable_package import make_callable

make_callable(__name__, "tunemerge.evaluate.single", "evaluate")
