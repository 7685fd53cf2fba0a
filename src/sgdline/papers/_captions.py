"""Published numbers as words of captions: a number is written once, in `published.py` of its paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sgdline.claims.judging.summary import Published


def shown(value: float) -> str:
    """Return a number as captions write it, of four digits at most: 0.0625, 6.26e-5."""
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def found(
    published: Iterable[Published], quantity: str, *, where: str = "", setting: str = "", factor: float = 1.0
) -> dict[str, str]:
    """Return the numbers of one quantity by their series; the ends of a range as `140 to 190`.

    Args:
        published: Numbers of a paper.
        quantity: Which of them, as they call it.
        where: Figure or table of the paper; empty: any.
        setting: Of the numbers; empty: any.
        factor: From the unit of the numbers to that of the caption.

    Raises:
        ValueError: If there is none: a caption names what is not published.
    """
    values: dict[str, list[str]] = {}
    for number in published:
        if number.quantity == quantity and where in ("", number.where) and setting in ("", number.setting):
            values.setdefault(number.series, []).append(shown(factor * number.value))
    if not values:
        raise ValueError(f"quantity must be a published one, got {quantity!r} ({where}, {setting}). Correct it.")
    return {series: " to ".join(ends) for series, ends in values.items()}


def plain(numbers: Mapping[str, str]) -> str:
    """Return numbers one after another: `14.29, 10.13, 6.58`."""
    return ", ".join(numbers.values())


def named(numbers: Mapping[str, str], names: Mapping[str, str] | None = None, *, form: str = "{series} {value}") -> str:
    """Return numbers with their series: `FBPAL 197, PAL 170`.

    Args:
        numbers: By series.
        names: What the series are called, where not by themselves.
        form: Of one number.
    """
    return ", ".join(
        form.format(series=(names or {}).get(series, series), value=value) for series, value in numbers.items()
    )
