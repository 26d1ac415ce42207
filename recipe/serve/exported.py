"""Runs an exported model: a script that needs only NumPy and the format's runtime.

    python exported.py onnx|saved_model PATH WINDOWS.npy ANSWERS.npy

`recipe/serve/export.py` runs it in a separate process, to load the files as any other user would.
"""

import sys

import numpy as np


def of_onnx(path: str, windows: np.ndarray) -> np.ndarray:
    """Returns probabilities (windows, classes) of windows (windows, time, features)."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"window": windows})[0])


def of_saved_model(path: str, windows: np.ndarray) -> np.ndarray:
    """Returns probabilities (windows, classes) of windows (windows, time, features)."""
    import tensorflow as tf

    model = tf.saved_model.load(path)  # keep a reference, or its variables are freed
    return model.serve(windows).numpy()  # pyright: ignore[reportAttributeAccessIssue]


def main(kind: str, path: str, windows: str, answers: str) -> None:
    """Writes the answers for the windows in a file."""
    ask = {"onnx": of_onnx, "saved_model": of_saved_model}[kind]
    np.save(answers, ask(path, np.load(windows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
