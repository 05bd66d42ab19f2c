"""A study: arms x seeds x tasks under one budget, from a study file to results.json."""
