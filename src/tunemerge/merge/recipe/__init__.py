"""Recipes: mergekit's YAML, read strictly, planned, checked and run."""

from tunemerge.merge.recipe.old import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe"]
