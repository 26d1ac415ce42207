import ast
import os
import subprocess
import sys
import zipfile

import pytest
from tiny_run import ROOT

ROOMS = ("core", "data", "models", "evaluation", "recipe")


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


def test_the_wheel_holds_every_module_template_and_catalogue(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {"config.py", "train_model.py"}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.suffix in (".py", ".jinja", ".mo"):
                expected.add(path.relative_to(ROOT).as_posix())
    assert {".py", ".jinja", ".mo"} == {os.path.splitext(name)[1] for name in expected}
    assert names == expected


@pytest.mark.slow
def test_an_installed_wheel_trains_from_any_folder(wheel, tmp_path):
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / ("Scripts" if os.name == "nt" else "bin") / "python"
    # From the source folder pip would find the project installed already.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words):
        return subprocess.run(
            [python, *words], cwd=empty, env=environment, capture_output=True, text=True
        )

    assert run("-m", "pip", "install", "-q", wheel).returncode == 0
    code = "import train_model; print(repr(train_model.__file__))"
    commands = [["-c", code], ["-m", "train_model", "--help"], ["-m", "train_model", "--smoke"]]
    told = [run(*words) for words in commands]
    assert [done.returncode for done in told] == [0, 0, 0], told[-1].stderr
    assert ast.literal_eval(told[0].stdout.strip()).startswith(str(venv))
    assert "export" in told[1].stdout
    (run,) = (empty / "runs").iterdir()
    assert (run / "report.html").exists() and (run / "metrics.json").exists()
