"""Stands in for the command `retrain`: another model answers, once there is a file `go`."""

import json
import shutil
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    run, name = Path(sys.argv[2]), "retrained/new/model.keras"
    (run / "arguments.json").write_text(json.dumps(sys.argv[1:]))
    while not (run / "go").exists():
        time.sleep(0.01)
    (run / name).parent.mkdir(parents=True)
    shutil.copy(run / "other.keras", run / name)
    (run / "current.json").write_text(json.dumps({"model": name}))
    print("retrained  The new model answers")
