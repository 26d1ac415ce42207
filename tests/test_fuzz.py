"""Files of this project changed at random: read, or refused in lines that name what is wrong.

Any other exception fails. Files of bars: test_hostile_bars.py.
"""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from binance_server import START, STEP
from model_files import CONFIG, METADATA, WEIGHTS, make_model, parts_of, zipped
from mutations import mutated, restructured
from resumable_run import Run
from small_market import SETTINGS
from study_workers import made
from test_kept import true_bars
from test_study_results import finish

import config
import train_model
from core.errors import InputError
from core.lock import Lock
from data.bars.synthetic import persistent_drift
from data.market.market import build_market
from models.deployable import contract_of, load_classifier, save_model
from models.training.callbacks import checkpoint
from recipe.cli import training
from recipe.live import kept
from recipe.serve.guards import check_probabilities
from recipe.serve.inference import inference_windows
from recipe.study import plan as plans
from recipe.study import results
from recipe.study.trials import draw, pruner
from recipe.study.worker import is_worked_on, take

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
FEW, MANY = 15, int(os.environ.get("FUZZ_ROUNDS", "2000"))


class ModelFile:
    """A model.keras: the archive, its config.json or its weights; what is read must answer."""

    def __init__(self, folder, fixture):
        self.path = folder / "model.keras"
        save_model(make_model(), self.path)
        self.parts = parts_of(self.path)

    def change(self, random):
        kind = random.integers(4)
        if kind == 0:
            return self.path.write_bytes(mutated(zipped(self.parts), random))
        if kind == 1:
            changed = {WEIGHTS: mutated(self.parts[WEIGHTS], random)}
        elif kind == 2:
            changed = {CONFIG: mutated(self.parts[CONFIG], random)}
        else:
            value = restructured(json.loads(self.parts[CONFIG]), random)
            changed = {CONFIG: json.dumps(value).encode()}
        self.path.write_bytes(zipped({**self.parts, **changed, METADATA: b"{}"}))

    def read(self):
        model = load_classifier(self.path)
        about = pd.DataFrame({"timestamp": [pd.Timestamp("2024-01-01")] * 2, "symbol": ["A"] * 2})
        check_probabilities(np.asarray(model(np.zeros((2, 5, 3), "float32"))), about)
        keras.backend.clear_session()
        return contract_of(model)


class JsonFile:
    """A file of JSON, changed in its bytes or in its values."""

    path: Path

    def remember(self):
        self.raw = self.path.read_bytes()

    def change(self, random):
        if random.integers(2):
            self.path.write_bytes(mutated(self.raw, random))
        else:
            text = json.dumps(restructured(json.loads(self.raw), random))
            self.path.write_text(text, encoding="utf-8", errors="surrogatepass")


class Replay(JsonFile):
    """A config.json that --config replays."""

    def __init__(self, folder, fixture):
        self.path = folder / "config.json"
        self.path.write_text(json.dumps(config.as_dict(config.Flags())))
        self.remember()

    def read(self):
        return config.as_dict(config.load(replay=self.path))


class Command(JsonFile):
    """A file of a run folder, read by a verb of the command line."""

    def __init__(self, folder, fixture):
        finished, monkeypatch = fixture("finished"), fixture("monkeypatch")
        self.run, self.page = folder / "run", folder / "page.html"
        shutil.copytree(finished, self.run)
        shutil.copytree(finished, folder / "other")
        self.other = folder / "other"
        monkeypatch.setattr(training, "_run", lambda *_, **__: 0)

    def asks(self, *arguments):
        self.page.unlink(missing_ok=True)
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            status = train_model.main([*map(str, arguments)])
        if status == 2:
            raise InputError(errors.getvalue().splitlines())
        assert status == 0


class RunJson(Command):
    """run.json, read by resume."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        (self.run / "metrics.json").unlink()
        (self.run / "report.html").unlink()
        self.path = self.run / "run.json"
        self.remember()

    def read(self):
        self.asks("resume", self.run, "--force")


class RunConfig(RunJson):
    """config.json of a run, read by resume."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.path = self.run / "config.json"
        self.remember()


class Metrics(Command):
    """metrics.json, read by compare."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.path = self.run / "metrics.json"
        self.remember()

    def read(self):
        self.asks("compare", self.run, self.other, "--out", self.page)


class Predictions(Metrics):
    """predictions.parquet, read by compare."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.path = self.run / "predictions.parquet"
        self.remember()

    def change(self, random):
        if random.integers(2):
            self.path.write_bytes(mutated(self.raw, random))
            return
        table = pd.read_parquet(io.BytesIO(self.raw))
        name = table.columns[random.integers(table.shape[1])]
        odd = ["x", 7, -1, 0.5, np.nan, None, 1e300, pd.Timestamp("1700-01-01"), True, b"\xff"]
        column = table[name].astype(object)
        column.iloc[:: random.integers(1, 50)] = odd[random.integers(len(odd))]
        with contextlib.suppress(Exception):  # of two types: no column
            table.assign(**{name: column}).to_parquet(self.path)


class Study(JsonFile):
    """A file of a study, read by its page and its workers."""

    def __init__(self, folder, fixture):
        self.plan = made(folder / "study", "sweep", count=2)
        for cell in self.plan.cells:
            finish(self.plan, cell, 0.5)
        (self.plan.folder / "runs" / self.other).rename(folder / "away")
        self.plan.end(self.other, plans.FAILED, "why")
        lock = f"locks/{self.other}.lock"
        (self.plan.folder / lock).write_text(json.dumps({"host": "elsewhere", "pid": 7}))
        (self.plan.run(self.done) / "history.csv").write_text("fold,epoch,val_nll\n0,0,1.1\n")
        draw(self.plan, self.done)
        paths = ("study.json", f"cells/{self.done}.json", lock, f"ended/{self.other}.json")
        inside = ("metrics.json", "run.json", "validation.parquet", "history.csv")
        paths = [*paths, *(f"runs/{self.done}/{name}" for name in inside)]
        self.files = {name: (self.plan.folder / name).read_bytes() for name in paths}

    @property
    def done(self):
        return list(self.plan.cells)[0]

    @property
    def other(self):
        return list(self.plan.cells)[1]

    def change(self, random):
        for name, raw in self.files.items():
            (self.plan.folder / name).write_bytes(raw)
        name = list(self.files)[random.integers(len(self.files))]
        self.path, self.raw = self.plan.folder / name, self.files[name]
        if self.path.suffix == ".json":
            super().change(random)
        else:
            self.path.write_bytes(mutated(self.raw, random))

    def read(self):
        results._read_sums.cache_clear()
        plan = plans.load(self.plan.folder)
        if len(plan.cells) > 100:
            return
        results.runs_table(plan)
        for cell in plan.cells:
            if plan.state(cell) == plans.FAILED:
                plan.reason(cell)
            is_worked_on(plan, cell)
        if taken := take(plan):
            taken[1].let_go()
        pruner(plan, self.done)()
        if plan.kind == "sweep":
            plan.flags_file(self.other).unlink(missing_ok=True)
            draw(plan, self.other)


class Checkpoint:
    """A checkpoint whose checksum is right: its archive or its state is not."""

    def __init__(self, folder, fixture):
        self.folder, self.training = folder, Run(folder)
        self.training.fit()
        assert (latest := checkpoint.load_latest(folder)) is not None
        self.epoch, self.arrays, self.state = latest
        for path in folder.glob("*.checkpoint"):
            path.unlink()
        self.path = folder / f"epoch-{self.epoch:06d}.checkpoint"

    def change(self, random):
        state = self.state
        if random.integers(2):
            state = restructured(json.loads(json.dumps(state)), random)
        arrays = dict(self.arrays)
        for name in list(arrays)[:: random.integers(1, 99)] * int(random.integers(2)):
            arrays[name] = np.zeros(random.integers(0, 3, random.integers(3)), "float32")
        raw = checkpoint._encode(arrays, state)
        if random.integers(2):
            body = mutated(raw[65:], random)
            raw = checkpoint._signed(body)
        self.path.write_bytes(raw)

    def read(self):
        self.training.checkpointer.restore(self.training.model, note=lambda text: None)


class Store(JsonFile):
    """The index of a feature store, read by a process that maps it."""

    def __init__(self, folder, fixture):
        self.store = folder / "store"
        bars = persistent_drift(num_symbols=2, num_bars=900, seed=0)
        build_market(bars, SETTINGS, feature_store=self.store)
        self.path = folder / "store" / "feature_store.json"
        self.remember()

    def read(self):
        build_market(None, SETTINGS, feature_store=self.store)


class Download:
    """A file that `download` goes on with."""

    def __init__(self, folder, fixture):
        self.path = folder / "BTC_USDT-5m.parquet"
        self.bars = true_bars(40)
        self.bars.to_parquet(self.path, index=False)
        self.raw = self.path.read_bytes()

    def change(self, random):
        if random.integers(2):
            self.path.write_bytes(mutated(self.raw, random))
            return
        table = self.bars.copy()
        name = table.columns[random.integers(table.shape[1])]
        odd = ["x", 7, -1, np.nan, None, 1e300, pd.Timestamp("2300-01-01", tz="UTC"), True, [1]]
        table[name] = [odd[random.integers(len(odd))]] * len(table)
        with contextlib.suppress(Exception):
            table.to_parquet(self.path, index=False)

    def read(self):
        newest = START + 100 * STEP
        found = kept.kept(self.path, "BTC/USDT", newest)
        kept.join(self.path)
        kept.opens_of(self.path, newest)
        if found.bad or not found.in_order:
            kept.mend(self.path, "BTC/USDT", newest, [])
            assert not self.path.exists() or not kept.kept(self.path, "BTC/USDT", newest).bad


class Holder:
    """The file of a lock that another process has."""

    def __init__(self, folder, fixture):
        self.path = folder / ".lock"
        self.held = Lock(self.path, "it")
        assert self.held.take()

    def change(self, random):
        raw = json.dumps({"pid": os.getpid(), "host": "x" * int(random.integers(300))}).encode()
        self.path.write_bytes(mutated(raw, random))

    def read(self):
        with Lock(self.path, f"the file {self.path.name}"):
            raise AssertionError("two have it")


class Contract:
    """The contract that a model on another runtime carries."""

    def __init__(self, folder, fixture):
        finished, bars_file = fixture("finished"), fixture("bars_file")
        self.path = folder / "the model"
        self.good = contract_of(load_classifier(finished / "model.keras"))
        self.bars = pd.read_parquet(bars_file)

    def change(self, random):
        self.contract = restructured(json.loads(json.dumps(self.good)), random)

    def read(self):
        notes = []
        inference_windows(self.contract, self.bars, newest_only=True, note=notes.append)


KINDS = [ModelFile, Replay, RunJson, RunConfig, Metrics, Predictions, Study, Checkpoint, Store]
KINDS += [Download, Holder, Contract]


def fuzzed(file, rounds, first=0):
    """Returns which of so many changed files were read, and not refused in lines."""
    outcomes = []
    for seed in range(first, first + rounds):
        file.change(np.random.default_rng([seed, 31]))
        try:
            file.read()
            outcomes.append(True)
        except InputError as error:
            assert error.faults
            for fault in error.faults:
                shown = fault.replace("\N{NO-BREAK SPACE}", " ")
                assert shown.isprintable() and len(fault) <= 1000, (seed, fault)
            outcomes.append(False)
        except BaseException as error:
            raise AssertionError(f"seed {seed} of {type(file).__name__}") from error
    return outcomes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_changed_files_are_read_or_refused(kind, tmp_path, request):
    file = kind(tmp_path, request.getfixturevalue)
    outcomes = fuzzed(file, 6 if kind is ModelFile else FEW)  # each of them is built
    assert False in outcomes


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_thousands_of_changed_files(kind, tmp_path, request):
    file = kind(tmp_path, request.getfixturevalue)
    assert 0.02 < np.mean(fuzzed(file, MANY)) or kind is Holder
