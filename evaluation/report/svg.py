"""How the pages' figures look, and how they become SVG files.

Nothing here touches pyplot, whose figures live in a global list.
"""

import functools
import warnings
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.ticker import Formatter, PercentFormatter, ScalarFormatter

from core.i18n import decimal_comma

# Okabe and Ito's colours, which colour-blind readers can distinguish.
COLOURS = ("#D55E00", "#707070", "#0072B2")  # SELL, HOLD, BUY
INK, ACCENT, GRID = "#1a1a1a", "#009E73", "#d9d9d9"
WIDTH = 4.8  # inches
STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#808080",
    "text.color": INK,
    "axes.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "report",  # equal figures, equal bytes
    "text.parse_math": False,  # a symbol with dollar signs is a text
    "text.usetex": False,
}
# Fonts with the letters that matplotlib's own lacks, the first there is of each line is taken.
LETTERS = (
    ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC")
    + ("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei")
    + ("SimHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS"),
    ("Noto Sans CJK KR", "Noto Sans KR", "Malgun Gothic", "Apple SD Gothic Neo", "NanumGothic"),
    ("Noto Sans Devanagari", "Nirmala UI", "Kohinoor Devanagari"),
    ("Noto Sans Arabic", "Segoe UI", "Geeza Pro"),
    ("Noto Sans Thai", "Leelawadee UI", "Thonburi"),
    ("Noto Emoji", "Segoe UI Symbol", "Apple Symbols", "Symbola"),
    ("Unifont", "Noto Sans"),
)
_WIDER = 0.5  # of a letter's height: what a letter of another font may need beside the box for it


def to_svg(figure: Figure) -> bytes:
    """Returns the figure as an SVG file; its text is drawn as paths and needs no font.

    Letters that matplotlib's font lacks (as in a Chinese symbol) come from another font on this
    machine. If no font has them, the picture keeps its text as text, for the viewer's own fonts:
    installing a Noto font for the language on this machine makes them paths again.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                if isinstance(axis.get_major_formatter(), (ScalarFormatter, PercentFormatter)):
                    axis.set_major_formatter(_OfTheLanguage(axis.get_major_formatter()))
        lacking = _with_other_fonts(figure)
        if lacking:
            matplotlib.rcParams["svg.fonttype"] = "none"
            figure.set_layout_engine("constrained", w_pad=lacking * _WIDER * 9.5 / 72)
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()


def _with_other_fonts(figure: Figure) -> int:
    """Gives texts the fonts that have their letters, and returns the most letters that lack one."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_ticklabels()  # makes their texts
    lacking = 0
    for text in figure.findobj(Text):
        letters = set(text.get_text()) - _letters_of("sans-serif") - {"\n"}
        if letters:
            fonts = [name for name in _other_fonts() if letters & _letters_of(name)]
            text.set_fontfamily(["sans-serif", *fonts])
            for name in fonts:
                letters = letters - _letters_of(name)
            lacking = max(lacking, sum(letter in letters for letter in text.get_text()))
    return lacking


@functools.cache
def _other_fonts() -> tuple[str, ...]:
    there = set(font_manager.get_font_names())
    firsts = (next((name for name in line if name in there), None) for line in LETTERS)
    return tuple(name for name in firsts if name is not None)


@functools.cache
def _letters_of(font: str) -> frozenset[str]:
    file = font_manager.findfont(FontProperties(family=[font]))
    return frozenset(map(chr, font_manager.get_font(file).get_charmap()))


class _OfTheLanguage(Formatter):
    """Another formatter's labels with the comma of the language."""

    def __init__(self, inner: Formatter):
        self.inner = inner

    def __call__(self, x, pos=None):
        return decimal_comma(self.inner(x, pos))

    def set_locs(self, locs):
        self.inner.set_locs(locs)

    def get_offset(self):
        return decimal_comma(self.inner.get_offset())
