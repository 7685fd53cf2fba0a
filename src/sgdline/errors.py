"""The one exception that reaches the user as a single sentence."""


class SgdlineError(Exception):
    """A known fault of config, data or tables; its text says what to do about it.

    Scripts print the text alone and put the traceback into the rule's log, so the text has to stand on its
    own: `<name> must be <rule>, got <value>. <How to mend>.`
    """


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign exception's text, or its kind, without a full stop at its end."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
