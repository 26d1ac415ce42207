"""A study over a real PostgreSQL, which the test starts where it is installed."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from study_workers import check_that_a_killed_workers_cell_is_resumed

optuna = pytest.importorskip("optuna", reason="needs the extra `study` (Optuna)")
sqlalchemy = pytest.importorskip("sqlalchemy", reason="comes with Optuna")
pytest.importorskip("psycopg", reason="needs psycopg, the driver of PostgreSQL")


def programs():
    """Returns the folder of PostgreSQL's server programs, or None."""
    places = [
        Path(shutil.which("initdb") or "/"),
        *Path("/usr/lib/postgresql").glob("*/bin/initdb"),
    ]
    found = (path.resolve().parent for path in places)
    return next((place for place in found if (place / "pg_isready").exists()), None)


@pytest.fixture(scope="module")
def server():
    """Yields the URL of a server that listens on this machine alone."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (initdb and postgres)")
    # The server refuses to run as root; a package of it brings the user `postgres`.
    owner = "postgres" if os.geteuid() == 0 else getpass.getuser()
    as_owner = {"user": owner} if os.geteuid() == 0 else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="study-database-"))
    try:
        if as_owner:
            shutil.chown(folder, owner)
        data = folder / "data"
        initdb = [programs() / "initdb", "-D", data, "-U", "study", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", **as_owner)
        listen = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
        with (
            open(os.devnull, "wb") as nothing,
            subprocess.Popen(
                [programs() / "postgres", "-D", data, *listen], stderr=nothing, cwd="/", **as_owner
            ) as process,
        ):
            try:
                _wait_for(programs(), port)
                yield f"postgresql+psycopg://study@127.0.0.1:{port}/postgres"
            finally:
                process.send_signal(signal.SIGINT)  # fast: open connections are ended
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(place, port):
    ready = [place / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
    until = time.monotonic() + 60
    while subprocess.run(ready, capture_output=True).returncode:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_two_workers_copy_their_trials_to_a_database(server, tmp_path, monkeypatch):
    plan = check_that_a_killed_workers_cell_is_resumed(tmp_path, monkeypatch, storage=server)
    pool = {"poolclass": sqlalchemy.pool.NullPool}
    storage = optuna.storages.RDBStorage(server, engine_kwargs=pool)
    copied = optuna.load_study(study_name=plan.name, storage=storage)
    assert {trial.user_attrs["cell"] for trial in copied.trials} == set(plan.cells)
    assert len(copied.trials) == len(plan.cells)
