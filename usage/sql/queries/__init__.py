"""Statements that aggregate totals or move them: one a file, read by its name.

Placeholders are those of psycopg2: %(name)s. A name that begins with an underscore stands for a
part of the text: the fragment in the file of that name, or an identifier that the caller passes.
"""

import re
from functools import cache
from importlib import resources

HEADER = re.compile(r"\A(?:--.*\n)+")
PART = re.compile(r"%\((_\w+)\)s")


@cache
def read(name: str, **identifiers: str) -> str:
    """Return the statement in `<name>.sql` with its parts in place and without its header.

    `identifiers` are names of tables and columns from code, such as _relation="usage_daily". They
    never come from input, because nothing quotes them.
    """
    text = (resources.files(__name__) / f"{name}.sql").read_text(encoding="utf-8")
    return PART.sub(
        lambda part: identifiers.get(part[1]) or read(part[1], **identifiers),
        HEADER.sub("", text).strip(),
    )
