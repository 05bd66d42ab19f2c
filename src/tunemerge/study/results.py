from tunemerge.results import *  # noqa: F403
