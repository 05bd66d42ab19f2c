"""What finished steps leave behind, kept by key."""

STORE = ".tunemerge"
"""The store of all studies and merges that are run in a folder is this folder in it."""
