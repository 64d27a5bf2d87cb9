"""pyinfra's own messages, made harmless: they quote what nodes say, and pyinfra prints them as they are."""

from __future__ import annotations

import logging
import re

from reports import plain

#: Bold, the eight colours and back: what pyinfra itself uses. The tab and the line's end stay.
_STYLE = re.compile("(\x1b\\[(?:0|1|3[0-7])m|[\t\n])")


def install() -> None:
    """From now on no message moves the cursor, names the window or turns a line round."""
    logging.getLogger("pyinfra").addFilter(_harmless)


def _harmless(record: logging.LogRecord) -> bool:
    if isinstance(record.msg, str):
        record.msg, record.args = visible(record.getMessage()), ()
    return True


def visible(message: str) -> str:
    """The message with pyinfra's styles, and everything else that cannot be seen written as an escape."""
    return "".join(part if _STYLE.fullmatch(part) else plain.visible(part) for part in _STYLE.split(message))
