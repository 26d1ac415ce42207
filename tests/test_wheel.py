import ast
import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest
from tiny_run import ROOT, TINY, metrics_of, settings

PACKAGE = "xlstm_classifier"
ROOMS = ("core", "data", "models", "evaluation", "recipe")
TOP = {"config", "train_model", *ROOMS}
STRANGERS = "raise ImportError('this is not for you')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without network: setuptools is that of this environment."""
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools to build a wheel")
    places = {name: tmp_path_factory.mktemp(name) for name in ("source", "wheel")}
    ask = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs git to tell the files of the project")
    for name in listed.stdout.splitlines():  # a build leaves folders beside the source
        if (ROOT / name).is_file():
            copy = places["source"] / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    done = subprocess.run(
        [*command, "-w", str(places["wheel"]), str(places["source"])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (path,) = places["wheel"].glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def elsewhere(tmp_path):
    """The folder of somebody whose own modules have the names that the checkout has, too."""
    folder = tmp_path / "elsewhere"
    for name in ROOMS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(STRANGERS)
    for name in ("config.py", "train_model.py"):
        (folder / name).write_text(STRANGERS)
    return folder


def run(folder, command, **environment):
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"} | environment
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_wheel_holds_every_module_template_and_catalogue_in_one_package(unpacked):
    found = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    inside = {name for name in found if ".dist-info/" not in name}
    expected = {"config.py", "train_model.py"}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.suffix in (".py", ".jinja", ".mo"):
                expected.add(path.relative_to(ROOT).as_posix())
    assert {".py", ".jinja", ".mo"} == {os.path.splitext(name)[1] for name in expected}
    own = {path.name for path in (ROOT / PACKAGE).iterdir() if path.suffix in (".py", ".jinja")}
    assert inside == {f"{PACKAGE}/{name}" for name in expected | own}
    (top,) = unpacked.glob("*.dist-info/top_level.txt")
    assert top.read_text().split() == [PACKAGE]


def test_no_module_of_the_wheel_imports_what_only_the_checkout_has(unpacked):
    for path in (unpacked / PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            assert not {name.partition(".")[0] for name in names} & TOP, path


@pytest.mark.parametrize("text", ["import data.bars.read", "import config, os"])
def test_an_import_that_cannot_be_moved_ends_the_build(text, monkeypatch):
    import setuptools

    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    found: dict = {}
    exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), found)
    with pytest.raises(ValueError, match=text):
        found["moved"](text)
    moved = found["moved"]("def f():\n    from core import i18n, place\n    import config\n")
    assert moved == (
        "def f():\n    from xlstm_classifier.core import i18n, place\n"
        "    from xlstm_classifier import config\n"
    )
    assert found["moved"]("import os\nfrom datetime import date\n'import config'\n") == (
        "import os\nfrom datetime import date\n'import config'\n"
    )


def test_the_wheel_speaks_where_modules_of_the_same_names_are(unpacked, elsewhere):
    done = run(elsewhere, [sys.executable, "-m", PACKAGE, "--help"], PYTHONPATH=str(unpacked))
    assert done.returncode == 0, done.stderr
    assert "xlstm-classifier train --help" in done.stdout
    code = f"from {PACKAGE} import InputError, XLSTMClassifier as X; print(X(SEED=1))"
    done = run(elsewhere, [sys.executable, "-c", code], PYTHONPATH=str(unpacked))
    assert (done.stdout, done.stderr) == ("XLSTMClassifier(SEED=1)\n", "")


# Half a minute: the wheel in an environment of its own, which borrows the libraries of this one.
TRAINS = f"""
from pathlib import Path
from xlstm_classifier import XLSTMClassifier
from xlstm_classifier.data.bars.synthetic import persistent_drift
bars = persistent_drift(num_symbols=3, num_bars=900, seed=1)
bars.to_parquet("bars.parquet")
model = XLSTMClassifier(**{TINY}).fit(bars, "run", quiet=True)
again = XLSTMClassifier.load(model.save("kept"))
assert again.predict(bars).equals(model.predict("bars.parquet"))
print(__import__("xlstm_classifier").__file__)
"""


@pytest.mark.slow
def test_an_installed_wheel_trains_beside_modules_of_the_same_names(
    wheel, elsewhere, tmp_path, finished
):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    scripts = venv / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "install", "-q"]
    done = run(elsewhere, [*pip, "--no-deps", "--no-index", wheel])
    assert done.returncode == 0, done.stderr
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = run(elsewhere, [scripts / "python", "-c", ask]).stdout.strip()
    # What an editable install put there is not followed from here.
    with open(os.path.join(own, "borrowed.pth"), "w") as file:
        file.write(sysconfig.get_path("purelib"))
    (elsewhere / "trains.py").write_text(TRAINS)
    done = run(elsewhere, [scripts / "python", "trains.py"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(venv)) and done.stderr == ""
    # The checkout and the wheel give the same figures and read each other's models.
    assert metrics_of(elsewhere / "run") == metrics_of(finished)
    program = scripts / "xlstm-classifier"
    for model in (finished / "model.keras", elsewhere / "kept" / "model.keras"):
        command = [program, "predict", model, "--data", "bars.parquet"]
        done = run(elsewhere, command)
        assert done.returncode == 0 and done.stdout.startswith("timestamp,symbol,call"), done.stderr
    command = [program, "study", "seeds", "--seeds", "2", "--data", "bars.parquet"]
    done = run(elsewhere, [*command, "--out", "study", *settings(SUPERVISED_EPOCHS=1)])
    assert done.returncode == 0 and (elsewhere / "study" / "study.html").exists(), done.stderr
