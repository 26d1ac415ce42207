"""Measures the layers on a GPU in at most ten minutes; writes a table of what limits each row.

`python benchmarks/gpu.py --out gpu.md` needs JAX with the GPU's plugin, Keras, and for its peer
PyTorch and `pip install --no-deps xlstm==2.0.6 omegaconf`; TensorFlow and the data libraries are
not asked for. Every row has seconds that it may take, and what is left out is named. The file is
written after each row, so that whoever stops it early has what was measured until then. `--small`
tries it on a CPU.
"""

import argparse
import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from gpu_page import Found, Row, page  # noqa: E402

UNITS, BATCHES = (32, 128, 512), (16, 4096, 256, 1024, 64)  # what matters most comes first
POLICIES = ("float32", "mixed_bfloat16")
TOKENS, HEADS, WIDTHS = 65_536, 16, (128, 256)  # those of the published figure
_LEAST = 8.0  # seconds that a row is begun with
_SMALL = 240.0  # that a row may take on a CPU, which others may be using
_GOLDEN = ("tests/test_golden_blocks.py", "tests/test_golden.py")


def planned(small: bool) -> list[Row]:
    """Returns all rows, those first that are missed least."""
    tokens, heads, widths = (256, 2, (4, 8)) if small else (TOKENS, HEADS, WIDTHS)
    long, short = (64, 16) if small else (8192, 1024)
    cell = {"heads": heads, "batch": tokens // short, "time_steps": short}
    rows = [Row("ceilings", "", "torch", "ceilings", {"kernels": 100} if small else {}, 60)]
    for stacked, what in ((True, ", states stacked once"), (False, "")):
        given = cell | {"width": widths[0], "stacked": stacked}
        name = f"sLSTM, official vanilla loop{what}, PyTorch"
        rows.append(Row(name, _size(given), "torch", "official", given, 40))
    rows += [
        Row("golden", "highest", "golden", "float32", {"precision": "highest"}, 130),
        Row("ceilings", "", "jax", "ceilings", _ceilings(small), 60),
    ]
    given = cell | {"width": widths[0]}
    rows.append(Row("sLSTM, ours", _size(given), "jax", "slstm", given))
    for width in widths:
        for chunk in (None, 128):
            given = {"width": width, "heads": heads, "batch": tokens // long, "time_steps": long}
            what = "" if chunk is None else f", chunks of {chunk}"
            given["chunk"] = chunk
            rows.append(Row(f"mLSTM, ours{what}", _size(given), "jax", "mlstm", given))
    rows += _steps(small)
    rows.append(Row("golden", "default", "golden", "float32", {"precision": "default"}, 60))
    return [replace(row, most=_SMALL) for row in rows] if small else rows


def _ceilings(small: bool) -> dict:
    if small:
        return {"side": 64, "numbers": 10_000, "turns": 40}
    return {"side": 8192, "numbers": 1 << 28, "turns": 1000}


def _steps(small: bool) -> list[Row]:
    rows = []
    for batch in (4,) if small else BATCHES:
        for units in (8,) if small else UNITS:
            for policy in POLICIES:
                given = {"units": units, "batch": batch, "policy": policy}
                given |= {"labels": 6, "heads": 2} if small else {}
                size, dtype = f"{units} units, batch {batch:,}", policy.removeprefix("mixed_")
                rows.append(Row("training step", size, "jax", "step", given, dtype=dtype))
    return rows


def _size(given: dict) -> str:
    batch, steps = given["batch"], given["time_steps"]
    return f"{given['heads']} heads of {given['width']}, {batch} sequences of {steps:,}"


class Program:
    """A process that measures row after row.

    Args:
        name: "jax" or "torch".
    """

    def __init__(self, name: str):
        # It shares the card with others, and must leave memory for what comes after it.
        environment = {
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.errors: list[str] = []
        self.readers = [
            threading.Thread(target=target, daemon=True)
            for target in (self._read, self._read_errors)
        ]
        for reader in self.readers:
            reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or []:
            self.lines.put(line)
        self.lines.put("")

    def _read_errors(self) -> None:
        for line in self.process.stderr or []:
            self.errors = [*self.errors[-20:], line.strip()]

    def ask(self, row: Row, seconds: float) -> dict:
        """Returns what a row gave; `fault` where it took too long, or failed."""
        try:
            self.process.stdin.write(json.dumps([row.kind, row.arguments]) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            return {"fault": f"not done in {seconds:.0f} s"}
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        return {"fault": f"ended: {(self.errors or ['?'])[-1][:100]}"}

    def end(self) -> None:
        """Ends the process at once."""
        self.process.kill()
        for reader in self.readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.process.wait()


def work(name: str) -> None:
    """Answers requests on standard input, a JSON line each, until it ends."""
    if name == "torch":
        from gpu_peer import KINDS
    else:
        from gpu_rows import KINDS
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever libraries print
    for line in sys.stdin:
        kind, arguments = json.loads(line)
        try:
            answer = KINDS[kind](**arguments)
        except Exception as error:  # a row that fails, for want of memory say, is told
            text = (str(error).splitlines() or [""])[0]
            answer = {"fault": f"{type(error).__name__}: {text[:100]}"}
        print(json.dumps(answer), file=answers, flush=True)


def golden(precision: str, seconds: float, chosen: str = "float32") -> dict:
    """Returns how many of the tests against golden numbers hold, and which do not.

    Args:
        precision: of float32 products on JAX, "highest" or "default", which is TensorFloat-32 on
            cards that have it.
        seconds: that it may take.
        chosen: which tests, as pytest's -k takes it.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_DEFAULT_MATMUL_PRECISION": precision,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    command = [sys.executable, "-m", "pytest", "-v", "--tb=no", "--noconftest", "-o", "addopts="]
    command += ["-p", "no:cacheprovider", "-W", "ignore", "-k", chosen, *_GOLDEN]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, timeout=seconds, capture_output=True, text=True
        )
        text, fault = done.stdout, "" if done.returncode in (0, 1) else done.stdout[-100:]
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        text = output.decode() if isinstance(output, bytes) else output
        fault = f"stopped after {seconds:.0f} s"
    failed = re.findall(r"(\S+) FAILED", text)
    return {"passed": text.count(" PASSED"), "failed": failed, "stopped": fault.strip()}


def measure(rows: list[Row], seconds: float, told, clock=time.monotonic, start=Program) -> Found:
    """Returns what rows gave within some seconds.

    Args:
        rows: in their order.
        seconds: for all of them together.
        told: called with what was found so far, after each row.
        clock: the time in seconds.
        start: makes the process of a program's name.
    """
    found, program, name, ends = Found(), None, "", clock() + seconds
    try:
        for row in rows:
            left = min(row.most, ends - clock() - 2)
            if left < min(_LEAST, row.most):
                found.left.append((row, "no time left"))
                continue
            if row.program == "golden":
                got = golden(row.arguments["precision"], left, row.kind)
            else:
                if program is None or name != row.program:
                    if program is not None:
                        program.end()
                    program, name = start(row.program), row.program
                got = program.ask(row, left)
            if "fault" in got:
                found.left.append((row, got["fault"]))
                if program is not None:  # it may still be at it, or have ended
                    program.end()
                    program = None
            else:
                found.rows.append((row, got))
            told(found)
    finally:
        if program is not None:
            program.end()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", metavar="PROGRAM", help="used by itself: a child process")
    parser.add_argument("--out", type=Path, help="file that the table is written to, too")
    parser.add_argument("--minutes", type=float, default=9.5, help="that all may take")
    parser.add_argument("--small", action="store_true", help="sizes that a CPU can do")
    parser.add_argument("--only", default="", help="rows whose kind or program has this name")
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return
    only = arguments.only.split(",") if arguments.only else []
    rows = planned(arguments.small)
    rows = [row for row in rows if not only or row.kind in only or row.program in only]

    def told(found: Found) -> None:
        print(f"{len(found.rows) + len(found.left)} of {len(rows)} rows", file=sys.stderr)
        if arguments.out:
            arguments.out.write_text(page(found), encoding="utf-8")

    found = measure(rows, 60 * arguments.minutes, told)
    text = page(found)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
