"""How the pages write numbers and texts, and the environment that renders their templates."""

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from core import i18n
from core.i18n import N_, _
from evaluation.report import svg

_SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)
_FIRST_META = '<meta charset="utf-8">'
_MOST_LISTED = 6  # numbers; longer lists are summarised
# The keys that a page shows as words.
KEYS = (
    N_("git commit"),
    N_("bars sha256"),
    N_("platform"),
    N_("backend"),
    N_("devices"),
    N_("versions"),
    N_("accepted changes"),
    N_("seconds per epoch"),
    N_("training seconds per epoch"),
    N_("labels per second"),
    N_("share outside step"),
    N_("training seconds"),
    N_("compilation seconds"),
    N_("validation seconds"),
    N_("mining seconds"),
    N_("method"),
    N_("reference"),
    N_("future window bars"),
    N_("threshold"),
    N_("gamma"),
    N_("alpha"),
    N_("smoothing"),
    N_("ce weight"),
    N_("training prior"),
    N_("deploy prior"),
    N_("temperature"),
    N_("temperature prior"),
)


def render(template: str, folder: Path | None = None, **content: Any) -> str:
    """Returns a page as HTML; texts in it are escaped.

    Args:
        template: its name.
        folder: where it is, if not here; it may import the parts that are here.
        **content: what it shows.
    """
    environment = templates(*filter(None, [folder, Path(__file__).parent]))
    environment.filters |= {"number": number, "plain": plain, "words": words, "signed": signed}
    environment.filters |= {"date": i18n.date, "percent": percent, "counted": counted}
    environment.globals |= {"_": _, "ngettext": i18n.ngettext, "language": i18n.language()}
    return with_policy(environment.get_template(template).render(**content))


def with_policy(page: str) -> str:
    """Returns a page that loads nothing and runs nothing but what it holds as it was made.

    Texts of others are escaped in it. Should one not be, a browser runs no script of it and fetches
    nothing for it (Content Security Policy, level 2).
    """
    digests = (hashlib.sha256(text.encode()).digest() for text in _SCRIPT.findall(page))
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    scripts = " ".join(hashes or ["'none'"])
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return page.replace(_FIRST_META, f"{_FIRST_META}\n{meta}", 1)


def templates(*folders: Path) -> jinja2.Environment:
    """Returns the templates of some folders; texts in their pages are escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def picture(figure: Figure, caption: str, alternative: str) -> dict[str, str]:
    """Returns a figure for the templates, with a text for readers who cannot see it."""
    return {"source": data_uri(figure), "caption": caption, "alternative": alternative}


@contextlib.contextmanager
def drawing(drawn: dict[str, dict[str, str]], name: str) -> Iterator[None]:
    """Has a picture that fails cost itself and a line, which `drawn` holds in its place.

    Whatever fails: what is drawn was trained for hours, and the rest of the page is still true.
    """
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        drawn[name] = {"failed": _("A picture could not be drawn. {error}", error=text)}


def data_uri(figure: Figure) -> str:
    """Returns a figure as the SVG that a page holds itself."""
    data = base64.b64encode(svg.to_svg(figure)).decode("ascii")
    return f"data:image/svg+xml;base64,{data}"


def number(value: Any, column: str = "") -> str:
    """Returns a number as text, in the form that suits its column; a dash for none."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if column in ("net_return", "gross_return", "drawdown"):
        return i18n.number(value, ".1%")
    if column == "trades":
        return i18n.number(value, ",")
    if column in ("sharpe", "turnover", "gross_bps_per_trade"):
        return i18n.number(value, ",.1f")
    return i18n.number(value, ".4f")


def counted(epoch: Any) -> str:
    """Returns the number of an epoch, counted from 0, as people count; a dash for none."""
    return plain(None if isinstance(epoch, jinja2.Undefined) or epoch is None else epoch + 1)


def percent(value: Any) -> str:
    """Returns a share as whole percents."""
    return i18n.number(value, ".0%")


def signed(value: Any, digits: int = 3) -> str:
    """Returns a number with its sign, an interval as `low to high`; a dash for none."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if isinstance(value, Sequence):
        low, high = (signed(part, digits) for part in value)
        return _("{low} to {high}", low=low, high=high)
    return i18n.number(value, f"+.{digits}f")


def plain(value: Any) -> str:
    """Returns any value of metrics.json or run.json as readable text."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, float):
        return i18n.number(value, ",.4g" if abs(value) < 1000 else ",.0f")
    if isinstance(value, int):
        return i18n.number(value, ",")
    if isinstance(value, Mapping):
        return i18n.listed(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > _MOST_LISTED and all(isinstance(part, (int, float)) for part in value):
            low, middle, high = (plain(float(np.quantile(value, q))) for q in (0, 0.5, 1))
            return i18n.ngettext(
                "{middle} in the middle, {low} to {high} ({n} values)",
                "{middle} in the middle, {low} to {high} ({n} values)",
                len(value),
                **{"low": low, "middle": middle, "high": high},
            )
        return i18n.listed(plain(part) for part in value)
    return str(value)


def words(name: str) -> str:
    """Returns a key of metrics.json or run.json as words."""
    return _(str(name).replace("_", " "))
