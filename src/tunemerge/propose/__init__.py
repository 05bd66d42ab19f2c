"""A study file proposed from data and models: what `tunemerge init` infers, asks and writes."""
