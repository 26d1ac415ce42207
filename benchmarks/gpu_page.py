"""The table of benchmarks/gpu.py: what was measured, what limits it, and what was left out."""

from dataclasses import dataclass, field

from gpu_work import Ceilings, Work, limit

# Beck et al. 2025, arXiv 2503.14376: their fastest kernel for the mLSTM, forward and backward.
PUBLISHED = (
    "| mLSTM, fused kernels (TFLA), as published for an H100 | 16 heads, 65,536 tokens | | 15.3 | "
    "4,283,399 | | |"
)


@dataclass(frozen=True)
class Row:
    """What is measured.

    Attributes:
        name: in the table.
        size: likewise.
        program: that measures it: "jax", "torch" or "golden".
        kind: of the measurement, as `gpu_rows.KINDS` and `gpu_peer.KINDS` name it.
        arguments: of it.
        most: seconds that it may take.
        dtype: of its products.
    """

    name: str
    size: str
    program: str
    kind: str
    arguments: dict
    most: float = 45.0
    dtype: str = "float32"


@dataclass
class Found:
    """What was measured so far.

    Attributes:
        rows: with what each gave.
        left: names of rows that were left out, and why.
    """

    rows: list[tuple[Row, dict]] = field(default_factory=list)
    left: list[tuple[Row, str]] = field(default_factory=list)

    def ceilings(self, program: str) -> dict:
        """Returns those that a program measured; {}: none."""
        for row, got in self.rows:
            if (row.kind, row.program) == ("ceilings", program):
                return got
        return {}


def page(found: Found) -> str:
    """Returns what was found in Markdown."""
    ours, theirs = found.ceilings("jax"), found.ceilings("torch")
    lines = ["# The layers on a GPU", "", *_head(ours, theirs)]
    lines += [_golden_in_words(row, got) for row, got in found.rows if row.program == "golden"]
    lines += ["", "| what | size | type | ms | a second | at least, ms | what limits it |"]
    lines += ["|---|---|---|---:|---:|---|---|"]
    for row, got in found.rows:
        if "seconds" in got:
            lines.append(_line(row, got, ours, theirs))
    lines.append(PUBLISHED)
    if found.left:
        told = [f"{' '.join([row.name, row.size, row.dtype])} ({why})" for row, why in found.left]
        lines += ["", f"Left out: {'; '.join(told)}."]
    return "\n".join([*lines, ""])


def _head(ours: dict, theirs: dict) -> list[str]:
    if not ours:
        return ["The device was not measured, so no limits are told."]
    also = ""
    if theirs:
        also = f" In PyTorch {theirs['torch']} a kernel takes {1e6 * theirs['launch']:.1f} µs."
    rates = [f"{rate / 1e12:,.3g} TFLOP/s in {dtype}" for dtype, rate in ours["flops"].items()]
    return [
        f"{ours['device']}, JAX {ours['jax']}. Measured: products {' and '.join(rates)}; a copy "
        f"{ours['bandwidth'] / 1e9:,.4g} GB/s; a turn of a loop {1e6 * ours['turn']:.1f} µs, a "
        f"kernel {1e6 * ours['launch']:.1f} µs.{also}",
        "",
        "Products of float32 are those of JAX's default, TensorFloat-32 on cards that have it. "
        'A second: labels of a training step, tokens of a layer, forward and backward. "At '
        'least" is what each of these would take alone at the measured rates: the counted '
        "products (arithmetic), what they and the loops read and write (memory bandwidth), the "
        "turns of loops and the kernels (launches), a step of a model of one weight (Keras between "
        "steps). The last column has the largest and its share of the measured time.",
        "",
    ]


def _golden_in_words(row: Row, got: dict) -> str:
    failed = got["failed"]
    text = f"Golden numbers, float32 with products at precision {row.size}: {got['passed']} hold"
    text += f", {len(failed)} do not: {', '.join(failed[:6])}" if failed else ", none fails"
    text += ", and more" if len(failed) > 6 else ""
    return f"{text}{'; ' + got['stopped'] if got['stopped'] else ''}.\n"


def _line(row: Row, got: dict, ours: dict, theirs: dict) -> str:
    least, words = "", ""
    if ours and (theirs or row.program == "jax"):
        names = ("flops", "bandwidth", "turn", "launch", "step")
        known = {name: ours[name] for name in names}
        known |= {"launch": theirs["launch"]} if row.program == "torch" else {}
        parts = Ceilings(**known).seconds(Work(**got["work"]), row.dtype)
        least = ", ".join(f"{name} {1e3 * part:.3g}" for name, part in parts.items() if part)
        words = limit(parts, got["seconds"])
    rate = got["count"] / got["seconds"]
    cells = [row.name, row.size, row.dtype, f"{1e3 * got['seconds']:.4g}", f"{rate:,.0f}"]
    return f"| {' | '.join([*cells, least, words])} |"
