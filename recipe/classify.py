"""The names that notebooks import to predict; they are defined in recipe/predict.py."""

from recipe.predict import classify, classify_latest

__all__ = ["classify", "classify_latest"]
