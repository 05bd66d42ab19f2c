"""Git Re-Basin: permute the units of one network so that they match those of another, without changing what it does."""
