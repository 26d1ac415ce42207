"""What a function of JAX has to do at least, counted, and what that takes on a measured device.

Counted are matrix products and loops, on the function's own equations before they are compiled.
All else is taken to be fused into them. What a loop makes and uses within one turn is taken to stay
in the caches: its products count as arithmetic, not as bytes.
"""

import math
from dataclasses import dataclass

_LIMITING = 0.3  # of the measured time, from which on an estimate explains it


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        flops: of matrix products; a multiplication and an addition are two.
        moved: bytes that products and loops read and write.
        turns: of loops, one after another; loops within loops count inside.
        launches: products outside of loops, one kernel each.
        steps: of Keras, whose Python runs once for each.
    """

    flops: float = 0.0
    moved: float = 0.0
    turns: float = 0.0
    launches: float = 0.0
    steps: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.flops + other.flops,
            self.moved + other.moved,
            self.turns + other.turns,
            self.launches + other.launches,
            self.steps + other.steps,
        )


def work_of(function, *arguments) -> Work:
    """Returns what a function does with arguments of these shapes."""
    import jax

    return _counted(jax.make_jaxpr(function)(*arguments).jaxpr)


def _counted(jaxpr) -> Work:
    total = Work()
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, _inside(equation)
        if name == "dot_general":
            total += _product(equation)
        elif name == "scan":
            times = equation.params["length"]
            turns = times * max(1.0, inner.turns)
            total += Work(times * inner.flops, _bytes(equation), turns)
        else:
            total += inner
    return total


def _inside(equation) -> Work:
    """Returns the work of the functions that an equation calls."""
    total = Work()
    for value in equation.params.values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            inner = getattr(part, "jaxpr", part)  # closed or open
            if hasattr(inner, "eqns"):
                total += _counted(inner)
    return total


def _product(equation) -> Work:
    (contracted, _), _batch = equation.params["dimension_numbers"]
    depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    (out,) = equation.outvars
    return Work(2.0 * depth * math.prod(out.aval.shape), _bytes(equation), launches=1)


def _bytes(equation) -> float:
    arrays = [*equation.invars, *equation.outvars]
    return float(sum(math.prod(x.aval.shape) * x.aval.dtype.itemsize for x in arrays))


@dataclass(frozen=True)
class Ceilings:
    """What the device was measured to do.

    Attributes:
        flops: of a large matrix product, a second, by its dtype.
        bandwidth: bytes a second, read and written, of a large copy.
        turn: seconds of a turn of a loop that does next to nothing.
        launch: seconds of a small kernel after another.
        step: seconds of a training step of a model of one weight.
    """

    flops: dict[str, float]
    bandwidth: float
    turn: float
    launch: float
    step: float

    def seconds(self, work: Work, dtype: str) -> dict[str, float]:
        """Returns what each of these would take alone."""
        return {
            "arithmetic": work.flops / self.flops[dtype],
            "memory bandwidth": work.moved / self.bandwidth,
            "launches": work.turns * self.turn + work.launches * self.launch,
            "Keras between steps": work.steps * self.step,
        }


def limit(parts: dict[str, float], measured: float) -> str:
    """Returns in words which of the estimates comes nearest to the measured seconds."""
    name = max(parts, key=lambda part: parts[part])
    share = parts[name] / measured
    text = f"{name}, {share:.0%}"
    return text if share >= _LIMITING else f"none of these; {text}"
