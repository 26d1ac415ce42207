"""Scaling of one training on JAX over processes and devices; what is expected of eight GPUs.

    python benchmarks/devices.py                    1, 2 and 4 processes, and 2 devices of one
    python benchmarks/devices.py --part memory      of processes with and without a feature store
    python benchmarks/devices.py --part one         labels a second of one GPU, by units and type
    python benchmarks/devices.py --part one --cpu   the same on the CPU
    python benchmarks/devices.py --part paper       what the reduction takes on 8 GPUs, computed

Each row is measured in processes of its own (benchmarks/devices_run.py) on made-up bars; `--small`
tries everything in a minute or two. Prints tables in Markdown.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = Path(__file__).with_name("devices_run.py")
DATA = "synthetic:walk?bars={bars}&symbols=8&seed=0"
LAYOUTS = [(1, 1), (1, 2), (2, 1), (4, 1)]  # processes, and devices of each
UNITS, DTYPES = (32, 128, 512), ("float32", "mixed_bfloat16")
# Bytes a second in one direction from one GPU to the next, as their makers state them, and
# seconds of a hop, which are assumed.
LINKS = {
    "NVLink 4 (H100 SXM, 450 GB/s)": (450e9, 3e-6),
    "PCIe 4 x16 (25 GB/s)": (25e9, 8e-6),
    "Ethernet 100 Gb/s between hosts (12.5 GB/s)": (12.5e9, 30e-6),
}
GPUS = 8


def measure(options, *arguments: str, count: int = 1, devices: int = 1) -> dict | None:
    """Returns the figures of a row, or None where its processes ended without."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        where = f"localhost:{found.getsockname()[1]}"
    environment = dict(os.environ)
    if devices > 1:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    if options.cpu or options.part != "one":
        environment["JAX_PLATFORMS"] = "cpu"
    bars = options.bars or {"memory": 200_000}.get(options.part, 2_000)
    command = [
        sys.executable,
        str(RUN),
        "--data",
        DATA.format(bars=1_000 if options.small else bars),
    ]
    command += ["--epochs", "1" if options.small else "3", *arguments]
    together = [["--coordinator", where, "--processes", str(count), "--process"]] * (count > 1)
    begun = [
        subprocess.Popen(
            [*command, *(word for words in together for word in (*words, str(number)))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=None if options.loud else subprocess.DEVNULL,
            text=True,
        )
        for number in range(count)
    ]
    told = begun[0].communicate()[0]
    for process in begun[1:]:
        process.communicate()
    lines = [line for line in told.splitlines() if line.startswith("figures ")]
    return json.loads(lines[-1].removeprefix("figures ")) if lines else None


def by_processes(options) -> None:
    """Prints what each layout of processes and devices takes."""
    print(
        "| processes | devices of each | labels/s | step, ms | all-reduce alone, ms | its share |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    rows, parameters = [], 0
    for count, devices in LAYOUTS:
        found = measure(options, count=count, devices=devices)
        if found is None:
            print(f"| {count} | {devices} | failed: try --loud | | | |")
            continue
        share = found["reduce_ms"] / found["step_ms"]
        print(
            f"| {count} | {devices} | {found['labels_per_second']:,.0f} | {found['step_ms']:.1f} | "
            f"{found['reduce_ms']:.2f} | {share:.1%} |",
            flush=True,
        )
        rows.append(
            f"| {count} | {devices} | {found['own_rows_ms']:.2f} | {found['all_rows_ms']:.2f} |"
        )
        parameters = found["parameters"]
    print(f"\n{parameters:,} parameters: {4 * parameters:,} bytes are reduced in a step.\n")
    print("| processes | devices of each | own rows of a batch, ms | all rows, ms |")
    print("|---:|---:|---:|---:|")
    print("\n".join(rows))


def by_memory(options) -> None:
    """Prints the resident megabytes of two processes, with and without a feature store."""
    print("Resident MB of two processes: their own, at three points, and at last those of files.\n")
    print("| FEATURE_STORE | process | at first | with the market | with batches | of files |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for store in ("", folder):
            found = measure(options, "--part", "memory", f"--set=FEATURE_STORE={store}", count=2)
            if found is None:
                print("| failed: try --loud | | | | | |")
                continue
            for number, each in enumerate(found["processes"]):
                print(
                    f"| {'on' if store else 'off'} | {number} | {each['before']:,.0f} | "
                    f"{each['market']:,.0f} | {each['batches']:,.0f} | {each['file']:,.0f} |",
                    flush=True,
                )
    if found:
        print(
            f"\n{found['rows']:,} rows: features of {found['features_mb']:,.0f} MB, "
            f"other columns of {found['columns_mb']:,.0f} MB."
        )


def of_one_device(options) -> None:
    """Prints labels a second of one device, by the units of the network and the type."""
    printed = False
    for units in UNITS[:1] if options.small else UNITS:
        for dtype in DTYPES:
            found = measure(options, "--dtype", dtype, f"--set=XLSTM_UNITS={units}")
            if found is not None and found["platform"] != "gpu" and not options.cpu:
                print("no GPU here")
                return
            if not printed:
                print(f"On {found['device'] if found else 'an unknown device'}.\n")
                print(
                    "| units | type | labels/s | step, ms | parameters |\n|---:|---|---:|---:|---:|"
                )
                printed = True
            print(
                f"| {units} | {dtype} | failed: try --loud | | |"
                if found is None
                else f"| {units} | {dtype} | {found['labels_per_second']:,.0f} | "
                f"{found['step_ms']:.1f} | {found['parameters']:,} |",
                flush=True,
            )


def on_paper(_options) -> None:
    """Prints what a ring takes to reduce the gradients over eight GPUs, and the step it needs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(RUN.parent.parent))
    from models.xlstm_rl_model import build_xlstm_classifier

    print("| units | bytes a step | link | all-reduce, ms | step of one GPU for 90 % of 8, ms |")
    print("|---:|---:|---|---:|---:|")
    for units in UNITS:
        model = build_xlstm_classifier(60, 30, units=units, blocks="ms", num_heads=4)
        size = 4 * sum(weight.size for weight in map(_array, model.trainable_variables))
        for link, (bandwidth, hop) in LINKS.items():
            taken = 2 * (GPUS - 1) * (size / GPUS / bandwidth + hop)
            print(f"| {units} | {size:,} | {link} | {1e3 * taken:.3f} | {1e3 * 9 * taken:.1f} |")


def _array(variable):
    import keras

    return keras.ops.convert_to_numpy(variable)


if __name__ == "__main__":
    parts = {
        "processes": by_processes,
        "memory": by_memory,
        "one": of_one_device,
        "paper": on_paper,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=parts, default="processes")
    parser.add_argument("--bars", type=int, help="of each symbol")
    parser.add_argument(
        "--cpu", action="store_true", help="measure the CPU where a GPU is asked for"
    )
    parser.add_argument("--small", action="store_true", help="try it")
    parser.add_argument("--loud", action="store_true", help="what the processes say of errors, too")
    asked = parser.parse_args()
    parts[asked.part](asked)
