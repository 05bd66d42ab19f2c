"""Merging: methods, kernels, recipes, and an engine that streams tensors from files or memory.

The package can be called: `tunemerge.merge("ties", [a, b], base=c, density=0.5)` is `memory.merge`.
"""

from tunemerge.callable_package import make_callable

make_callable(__name__, "tunemerge.merge.memory", "merge")
