"""Fine-tuning: settings, the order of examples, the training itself, the state that is kept.

The package can be called: `tunemerge.tune("model", "rows.csv", "out", epochs=3)` is `single.tune`.
"""

from tunemerge.callable_package import make_callable

make_callable(__name__, "tunemerge.tune.single", "tune")
