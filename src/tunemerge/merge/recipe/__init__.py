"""Recipes: mergekit's YAML, read strictly, planned, checked and run."""
