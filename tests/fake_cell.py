"""Stands for the command line in tests of studies: a training of a few steps."""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

STEPS = int(os.environ.get("FAKE_STEPS", "4"))


def main(verb, *arguments):
    if verb == "resume":
        run = Path(arguments[0])
    else:
        pairs = [argument for argument in arguments if argument != "--brief"]
        options = dict(zip(pairs[::2], pairs[1::2], strict=True))
        run = Path(options["--out"])
        run.mkdir()
        flags = json.loads(Path(options["--config"]).read_text())
        (run / "config.json").write_text(json.dumps(flags))
        (run / "run.json").write_text(json.dumps({"data": options.get("--data")}))
    flags = json.loads((run / "config.json").read_text())
    data = json.loads((run / "run.json").read_text())["data"]
    with open(run / "begun.txt", "a") as file:
        file.write(f"{verb}\n")
    held = open(run / "held", "w")  # until this process ends, however it ends
    fcntl.flock(held, fcntl.LOCK_EX)
    history = run / "history.csv"
    rows = history.read_text().splitlines()[1:] if history.exists() else []
    for step in range(len(rows), STEPS):
        time.sleep(float(os.environ.get("FAKE_STEP_SECONDS", "0.25")))
        if data == f"broken at seed {flags['SEED']}":
            sys.exit("the bars are broken")
        rows.append(f"0,{step},{flags['LR_BASE'] + flags['SEED'] - step}")
        temporary = run / "history.tmp"
        temporary.write_text("\n".join(["fold,epoch,val_nll", *rows]) + "\n")
        temporary.replace(history)
    value = float(rows[-1].split(",")[2])
    (run / "metrics.json").write_text(json.dumps({"folds": [{"validation": {"nll": value}}]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
