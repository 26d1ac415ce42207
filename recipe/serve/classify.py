"""The names that notebooks import to predict; they are defined in recipe/serve/predict.py."""

from recipe.serve.predict import classify, classify_latest

__all__ = ["classify", "classify_latest"]
