"""Escapes of control characters, which a terminal would obey."""

from collections.abc import Callable

from django.core.management.base import OutputWrapper


def one_line(text: str) -> str:
    """Return the text with each control character, also a line end, as an escape like \\x1b."""
    return _escaped(text, kept="")


def _escaped(text: str, *, kept: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in kept
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


class SafeOutput(OutputWrapper):
    """The output of a command, with control characters escaped, except line ends."""

    def write(  # type: ignore[override]
        self,
        msg: str = "",
        style_func: Callable[[str], str] | None = None,
        ending: str | None = None,
    ) -> None:
        super().write(_escaped(msg, kept="\n"), style_func, ending)
