"""The one exception that reaches the user as a single sentence, and words for those of others."""

_LONGEST_CAUSE = 300  # characters of a foreign exception's text that a message repeats


class SgdlineError(Exception):
    """A known fault of config, data or tables; its text says what to do about it.

    Scripts print the text alone and put the traceback into the rule's log, so the text has to stand on its
    own: `<name> must be <rule>, got <value>. <How to mend>.`
    """


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign exception's text, or its kind, without a full stop at its end."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def cause_words(error: BaseException) -> str:
    """Return a foreign exception as one line of bounded length, without a full stop at its end."""
    if isinstance(error, SyntaxError):  # whose text ends with a shortened place
        return f"a syntax error: {error.msg}"
    text = " ".join(str(error).split()).rstrip(".")
    if len(text) > _LONGEST_CAUSE:
        text = text[:_LONGEST_CAUSE].rstrip() + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
