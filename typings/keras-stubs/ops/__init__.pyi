"""Operations on tensors, which Keras annotates as if each could return None."""

from typing import Any

def __getattr__(name: str) -> Any: ...
