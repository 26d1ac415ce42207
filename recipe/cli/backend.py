"""Starts the Keras backend for the command line; nothing heavy is imported before that."""

import importlib.metadata
import os
from pathlib import Path

from core.errors import InputError
from core.i18n import _
from core.memory import keep_freed_memory
from core.native_chatter import without_native_chatter
from recipe.run import folder as files

# Halves the time that XLA takes to compile the training step, which runs as fast as before.
COMPILER = (
    "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling,xla_cpu_disable_slp_vectorizer"
)
# A version that does not know a flag of its own ends the process: only where these were tried. By
# itself XLA makes use of half of an AVX-512 register; without AVX-512 the width changes nothing.
OLDER_EMITTERS, TRIED = "--xla_cpu_use_fusion_emitters=false", "2.21."
WHOLE_REGISTERS = "--xla_cpu_prefer_vector_width=512"
BACKENDS = ("tensorflow", "jax")


def prepare_process() -> None:
    """Sets the flags of XLA, unless the environment does."""
    flags = [COMPILER]
    if os.environ.get("KERAS_BACKEND", BACKENDS[0]) == "tensorflow":
        tried = _tensorflow_version().startswith(TRIED)
        flags += [OLDER_EMITTERS, WHOLE_REGISTERS] if tried else []
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))


def _tensorflow_version() -> str:
    try:
        return importlib.metadata.version("tensorflow")
    except importlib.metadata.PackageNotFoundError:  # that of a GPU's maker, or none
        return ""


def model_path(path: str | Path) -> Path:
    """Returns the path of a model file; for a run folder, of the model in use."""
    path = Path(path)
    return files.current_model(path) if path.is_dir() else path


def load_model(path: str | Path):
    """Returns the deployable model in a file or run folder, once the backend has started."""
    path = model_path(path)
    quiet_backend()
    from models.deployable import load_classifier

    return load_classifier(path)


def quiet_backend() -> None:
    """Starts the backend without the chatter of its native code."""
    prepare_process()
    with without_native_chatter():
        start_backend()


def start_backend() -> None:
    """Starts the Keras backend, with all of its native output."""
    try:
        import keras
    except ImportError as error:
        raise InputError(
            "the backend of Keras cannot be imported ({error}); KERAS_BACKEND must be "
            "tensorflow, or jax: pip install -e '.[jax]'",
            error=error,
        ) from error
    if keras.backend.backend() not in BACKENDS:
        raise InputError(
            "KERAS_BACKEND must be {backends}, got {backend}: the command line is not tested on it",
            backends=_(" or ").join(BACKENDS),
            backend=keras.backend.backend(),
        )
    keep_freed_memory()  # bars are read before
    keras.ops.zeros(())
