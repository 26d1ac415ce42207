"""`classify` under the name that notebooks import it by; it is defined in recipe/predict.py."""

from recipe.predict import classify

__all__ = ["classify"]
