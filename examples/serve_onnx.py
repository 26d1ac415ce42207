"""Classifies the bars of a file with an exported model, without TensorFlow or Keras.

    python examples/serve_onnx.py runs/ID/onnx/model.onnx bars.parquet > table.csv
    python examples/serve_onnx.py runs/ID/onnx/model.onnx bars.parquet --newest
    python examples/serve_onnx.py runs/ID/onnx/model.onnx btc.parquet --universe bars

It needs onnxruntime, NumPy, pandas, PyArrow and TA-Lib, and of this project `core/`, `data/` and
recipe/serve/ alone, which make features and calls as the project does. The table is
that of `train_model.py predict`; own columns of the training must be in the bars, and a model whose
features stand beside the market finds the other symbols in `--universe`. A remark says where SELL
and BUY are relative to the market.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd

from core.errors import InputError
from core.foreign import check_regular, parse_json, reason_of
from data.bars.read import read_bars
from data.features.own import load_features
from data.features.settings import settings_of
from recipe.serve.guards import plain_cells
from recipe.serve.inference import Note, inference_windows

_AT_ONCE = 256  # windows


def open_model(path: str) -> onnxruntime.InferenceSession:
    """Returns the model in an ONNX file of `train_model.py export`."""
    check_regular(Path(path), path)
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base class of their own
        raise InputError(f"{path} must be a model.onnx: {reason_of(error)}") from error


def contract_of(model: onnxruntime.InferenceSession) -> dict:
    """Returns what the model was trained on: classes, features, bars of a window, interval."""
    try:
        return parse_json(model.get_modelmeta().custom_metadata_map["contract"])
    except (KeyError, ValueError) as error:
        raise InputError(f"the model must have a contract: {reason_of(error)}") from error


def probabilities_of(model: onnxruntime.InferenceSession, windows: np.ndarray) -> np.ndarray:
    """Returns the probabilities of windows of raw features, float32 (windows, classes)."""
    return model.run(["probabilities"], {"window": windows})[0]


def classify(
    model: onnxruntime.InferenceSession,
    bars: pd.DataFrame,
    *,
    newest_only: bool = False,
    universe: pd.DataFrame | None = None,
    note: Note | None = None,
) -> pd.DataFrame:
    """Returns timestamp, symbol, call, p_sell, p_hold, p_buy and unfamiliar of windows.

    They are all of the bars, or the newest of each symbol. Those of `universe` get no answer.
    """
    asked = inference_windows(
        contract_of(model), bars, newest_only=newest_only, universe=universe, note=note
    )
    starts = range(0, len(asked.ends), _AT_ONCE)
    parts = [probabilities_of(model, asked.gather(slice(i, i + _AT_ONCE))) for i in starts]
    return asked.table(np.concatenate(parts))


def main() -> int:
    """Writes the table to standard output; remarks and faults go to standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model.onnx")
    parser.add_argument("bars", help="file or folder of bars")
    parser.add_argument("--newest", action="store_true", help="only each symbol's newest bar")
    parser.add_argument("--universe", metavar="PATH", help="bars of other symbols of the training")
    parser.add_argument(
        "--features", metavar="FILE", help="OWN_FEATURES of the training; it is run"
    )
    options = parser.parse_args()

    def note(text: str) -> None:
        print(text, file=sys.stderr)

    try:
        if options.features:
            load_features(options.features)
        model = open_model(options.model)
        own = settings_of(contract_of(model)).columns
        bars = read_bars(options.bars, note=note, extra=own)
        universe = None
        if options.universe:
            universe = read_bars(options.universe, note=note, extra=own)
        table = classify(model, bars, newest_only=options.newest, universe=universe, note=note)
    except InputError as error:
        note(str(error))
        return 2
    plain_cells(table).to_csv(sys.stdout, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
