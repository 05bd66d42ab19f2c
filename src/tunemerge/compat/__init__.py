"""Can these models be merged? Findings with remedies, from the files alone: no model is built, nothing is run."""

from tunemerge.compat.check import check_models

__all__ = ["check_models"]
