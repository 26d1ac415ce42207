"""What a training says of itself, in the language of whoever reads it."""

from collections.abc import Mapping
from typing import Any

from core.i18n import _, listed, number
from models.marks import Text


def in_words(text: Any) -> Any:
    """Returns a text of `models/` in the language of now; anything else as it is."""
    if not isinstance(text, Text):
        return text
    return _(text.message, **{name: in_words(value) for name, value in text.values.items()})


def alarm_in_words(alarm: Mapping[str, Any]) -> str:
    """Returns an alarm of `CollapseAlarm.alarms` in the language of now."""
    from models.training.callbacks.collapse_alarm import LOOK_AT, MESSAGES

    kind = alarm["kind"]
    return _(MESSAGES[kind], **alarm, look_at=LOOK_AT[kind])


def forecast_in_words(forecast: Mapping[str, Any]) -> str:
    """Returns what `Forecast.as_dict` gives in the language of now."""
    from models.training.collapse_forecast import NO_EDGE

    shares = listed(
        f"{name} {number(share, '.3f')}" for name, share in forecast["probabilities"].items()
    )
    if forecast["margin"] < NO_EDGE:
        return _("without signal no class is favoured ({shares})", shares=shares)
    return _(
        "without signal every window would be {favoured}, ahead by {margin:.3f} ({shares})",
        favoured=forecast["favoured"],
        margin=forecast["margin"],
        shares=shares,
    )


def span(seconds: float) -> str:
    """Returns a time as hours, minutes and seconds: 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
