"""Progress in words: the live line, and the plain line of logs. ASCII, and our own text only."""

from __future__ import annotations

from pytest_siren.session.progress import Figures

_NARROWEST = 20
_GAP = "  "


def live(figures: Figures, width: int) -> str:
    """Return one line of at most ``width`` characters; what matters least is left out.

    Raises ``ValueError`` for a width below 20.
    """
    if width < _NARROWEST:
        raise ValueError(f"the live line needs at least {_NARROWEST} columns, not {width}")
    shown = {0: _done(figures, width)}
    for place, text in _by_importance(figures):
        trial = {**shown, place: text}
        if len(_joined(trial)) <= width:
            shown = trial
    return _joined(shown)


def plain(figures: Figures) -> str:
    """Return one line for a log, with every figure there is."""
    parts = [
        f"siren: {figures.done}/{figures.total} ({_percent(figures)} %)",
        f"{figures.running} in flight",
    ]
    if figures.held:
        parts.append(_held(figures))
    parts.append("? runs/s" if figures.rate is None else f"{_rate(figures.rate)} runs/s")
    if figures.done < figures.total:
        parts.append(f"ETA {_span(figures.eta)}")
    if figures.asr is not None:
        parts.append(f"ASR {figures.asr:.2f}")
    if figures.utility is not None:
        parts.append(f"utility {figures.utility:.2f}")
    parts.append(_counted(figures.errors, "error", "errors"))
    if figures.retries:
        parts.append(_counted(figures.retries, "retry", "retries"))
    if figures.tokens:
        parts.append(f"{_amount(figures.tokens, ' ')} tokens")
    if figures.cost:
        parts.append(_dollars(figures))
    return ", ".join(parts)


def _by_importance(figures: Figures) -> list[tuple[int, str]]:
    """Return places on the line and texts for them, the most important first.

    A later text for the same place says more and takes more room.
    """
    running, held, rate, eta, asr, utility, errors, tokens, cost, retries = range(1, 11)
    many_held = figures.held * 2 >= figures.running
    parts = [(running, f"{figures.running} in flight")]
    if figures.held and many_held:
        parts += [(held, f"{figures.held} held"), (held, _held(figures))]
    if figures.done < figures.total:
        parts.append((eta, f"ETA {_span(figures.eta)}"))
    if figures.asr is not None:
        parts.append((asr, f"ASR {figures.asr:.2f}"))
    parts.append((errors, f"err {figures.errors}"))
    if figures.held and not many_held:
        parts.append((held, f"{figures.held} held"))
    if figures.rate is not None:
        parts.append((rate, f"{_rate(figures.rate)}/s"))
    if figures.utility is not None:
        parts.append((utility, f"util {figures.utility:.2f}"))
    if figures.held and not many_held:
        parts.append((held, _held(figures)))
    if figures.cost:
        parts.append((cost, _dollars(figures)))
    if figures.tokens:
        parts.append((tokens, f"{_amount(figures.tokens)} tokens"))
    if figures.retries:
        parts.append((retries, _counted(figures.retries, "retry", "retries")))
    return parts


def _joined(shown: dict[int, str]) -> str:
    return _GAP.join(shown[place] for place in sorted(shown))


def _done(figures: Figures, width: int) -> str:
    count = f"{figures.done}/{figures.total}"
    percent = f"{_percent(figures)}%"
    for text in (f"siren {count} {percent}", f"{count} {percent}", count):
        if len(text) <= width:
            return text
    return percent


def _percent(figures: Figures) -> int:
    return figures.done * 100 // figures.total if figures.total else 100


def _held(figures: Figures) -> str:
    held = f"{figures.held} held (rate limit)"
    return held if figures.resumes_in is None else f"{held}, next in {_span(figures.resumes_in)}"


def _rate(per_second: float) -> str:
    if per_second >= 100:
        return f"{per_second:.0f}"
    return f"{per_second:.1f}" if per_second >= 0.95 else f"{per_second:.2f}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 1000 else "?"


def _amount(number: int, gap: str = "") -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            return f"{number / size:.1f}{gap}{unit}"
    return str(number)


def _dollars(figures: Figures) -> str:
    amount = f"${figures.cost:.2f}" if figures.cost >= 0.01 else f"${figures.cost:.4f}"
    return f"{amount}+" if figures.unpriced else amount


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
