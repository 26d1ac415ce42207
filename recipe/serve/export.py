"""Ships a trained model as ONNX or SavedModel, once a separate process confirms its answers."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from core.errors import InputError
from core.foreign import reading, reason_of
from core.i18n import _
from core.native_chatter import without_native_chatter
from data.bars.checks import digest
from data.market.moves import adjust_splits
from data.market.windows import subsample
from models.deployable import contract_of
from recipe.run import folder as files
from recipe.run.origin import read_run
from recipe.serve import exported
from recipe.serve.inference import inference_windows
from recipe.serve.onnx_file import scalings, signature, write_onnx

TOLERANCE = 1e-5  # the largest difference of a probability
CONTRACT = "contract.json"
_ONNX = "model.onnx"
_COMPARED = 256  # windows at the most


class ExportFailed(Exception):
    """The exported model does not answer as the Keras model does; it was removed."""


def export(model: keras.Model, kind: str, folder: Path, windows: np.ndarray) -> float:
    """Writes a model and its contract into a new folder, completely or not at all.

    The folder gets its name last, after a separate process has loaded and run the model in it.

        >>> export(load_classifier("runs/first/model.keras"), "onnx", Path("onnx"), windows)
        1.2e-07

    Args:
        model: a deployable model.
        kind: "onnx": the folder gets `model.onnx`; "saved_model": the folder is the SavedModel.
            Both get `contract.json`.
        folder: does not exist yet.
        windows: to compare, float32 (windows, time, features).

    Returns:
        the largest difference between its probabilities and those of Keras.

    Raises:
        InputError: if the folder cannot be made.
        ExportFailed: if the model cannot be loaded, or a difference is above `TOLERANCE`.
    """
    expected = model.predict(
        windows,
        verbose=0,  # pyright: ignore[reportArgumentType]  # Keras says str
    )
    new = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(new, ignore_errors=True)  # left by a killed process
    files.make(new)
    try:
        with without_native_chatter():
            path = _write(model, kind, new)
        files.write_json(new / CONTRACT, contract_of(model))
        difference = _difference(expected, _answers(kind, path, windows))
        if not difference <= TOLERANCE:
            raise ExportFailed(
                _(
                    "the {kind} model must give the probabilities of Keras within {tolerance:g}; "
                    "the largest difference in {num_windows} windows is {difference:.1e}: nothing "
                    "is kept",
                    kind=kind,
                    tolerance=TOLERANCE,
                    num_windows=len(windows),
                    difference=difference,
                )
            )
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return difference


def windows_to_compare(
    model: keras.Model, run: Path, read_bars: Callable[[str | None], pd.DataFrame]
) -> tuple[np.ndarray, str]:
    """Returns windows of a run's test bars, or random ones if the bars are gone or changed.

    Args:
        model: of the run.
        run: folder of the model; need not be a run folder.
        read_bars: returns the bars at the path that the run was given.

    Returns:
        windows, float32 (windows, time, features), and a description of them.
    """
    contract = contract_of(model)
    try:
        run_info = read_run(run)
        bars = read_bars(run_info["data"])
        if digest(bars) != run_info["bars_sha256"]:
            raise InputError("the bars are not those of the run any more")
        if run_info.get("adjust_splits"):
            bars = adjust_splits(bars)[0]
        windows = inference_windows(contract, bars)
        with reading(files.PREDICTIONS, KeyError, TypeError):
            test = pd.read_parquet(run / files.PREDICTIONS, columns=["timestamp", "symbol"])
            wanted = pd.MultiIndex.from_arrays([test["timestamp"], test["symbol"].astype(str)])
    except (OSError, KeyError, InputError) as error:
        reason = reason_of(error)
        what = _("random windows in the range of the training bars ({reason})", reason=reason)
        return _random_windows(model), what
    keys = pd.MultiIndex.from_arrays([windows.about["timestamp"], windows.about["symbol"]])
    places = np.flatnonzero(keys.isin(wanted))
    return windows.gather(places[subsample(len(places), _COMPARED)]), _(
        "windows of the run's test bars"
    )


def _random_windows(model: keras.Model) -> np.ndarray:
    """Returns Gaussian windows with the mean and variance of each feature in training."""
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(_COMPARED, *model.input_shape[1:]))
    scaling = next(scalings(model), None)
    if scaling is not None:
        # Behind deviations it scales more; the features are the first.
        mean, variance = (
            np.asarray(values).ravel()[: windows.shape[-1]]
            for values in (scaling.mean, scaling.variance)
        )
        windows = windows * np.sqrt(variance) + mean
    return windows.astype(np.float32)


def _write(model: keras.Model, kind: str, folder: Path) -> Path:
    """Returns the file or folder that a runtime loads."""
    if kind == "onnx":
        write_onnx(model, contract_of(model), folder / _ONNX)
        return folder / _ONNX
    model.export(folder, format="tf_saved_model", verbose=False, input_signature=signature(model))
    return folder


def _answers(kind: str, path: Path, windows: np.ndarray) -> np.ndarray:
    """Returns the answers of a process without this project, float32 (windows, classes)."""
    with tempfile.TemporaryDirectory() as place:
        windows_file, answers_file = Path(place) / "windows.npy", Path(place) / "answers.npy"
        np.save(windows_file, windows)
        # -P: modules beside the script must not shadow those of Python.
        command = [sys.executable, "-P", exported.__file__, kind, path, windows_file, answers_file]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise ExportFailed(
                _(
                    "the {kind} model cannot be loaded: {reason}: nothing is kept",
                    kind=kind,
                    reason=reason,
                )
            )
        return np.load(answers_file)


def _difference(expected: np.ndarray, answered: np.ndarray) -> float:
    """Returns the largest difference; infinity if shapes differ or a value is not finite."""
    if expected.shape != answered.shape or not np.isfinite(answered).all():
        return float("inf")
    return float(np.abs(expected - answered).max())
