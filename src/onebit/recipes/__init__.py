"""Recipes: one commented TOML file an experiment; see `onebit.recipe`."""
