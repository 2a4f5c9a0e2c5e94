"""The SQL objects of the read model. Each file has one object, and its name and version.
The package `queries` has the statements that aggregate totals or move them.

A file that treats every usage type alike says it once, for data, below one of two comments:

    -- For each usage type, with UNION ALL between:    a SELECT, up to its end
    -- For each usage type:                            statements, up to the end of the file

`expand` repeats that part for each usage type. A file runs in psql as it stands, for data alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class TypeInSQL:
    """A row of the table usage_type."""

    usage_type: str
    label: str
    unit: str
    raw_table: str
    quantity_column: str

    def written(self, text: str) -> str:
        """Return the statements that a file has for data, rewritten for this usage type."""
        # The unit and the label are parts of comments, which are literals.
        unit, label = (word.replace("'", "''") for word in (self.unit, self.label.lower()))
        words = {
            "'data'": f"'{self.usage_type}'",
            DATA.raw_table: self.raw_table,
            DATA.quantity_column: self.quantity_column,
            f"in {DATA.unit}": f"in {unit}",
            "raw data usage": f"raw {label} usage",
            "Raw data usage": f"Raw {label} usage",
        }
        pattern = "|".join(map(re.escape, words))
        return re.sub(pattern, lambda match: words[match[0]], text)


DATA = TypeInSQL("data", "Data", "kilobytes", "usage_datausagerecord", "kilobytes_used")
VOICE = TypeInSQL("voice", "Voice", "seconds", "usage_voiceusagerecord", "seconds_used")

EACH_BRANCH = re.compile(
    r"^ *-- For each usage type, with UNION ALL between:\n(.*?)(?=;\n|\n\$body\$)", re.S | re.M
)
EACH_STATEMENT = re.compile(r"^-- For each usage type:\n(.*)\Z", re.S | re.M)


def read(name: str, version: int) -> str:
    """Return the text of `<name>_v<version>.sql`, for example `usage_daily_v01.sql`."""
    return (resources.files(__name__) / f"{name}_v{version:02d}.sql").read_text(encoding="utf-8")


def expand(text: str, usage_types: Iterable[TypeInSQL]) -> str:
    """Return the text with its part for data repeated for each of these usage types."""
    types = list(usage_types)

    def repeat(separator: str, part: str) -> str:
        return separator.join(usage_type.written(part) for usage_type in types)

    text = EACH_BRANCH.sub(lambda match: repeat("\nUNION ALL\n", match[1]), text)
    return EACH_STATEMENT.sub(lambda match: repeat("\n", match[1]), text)


def statements_for(text: str, usage_type: TypeInSQL) -> str:
    """Return the statements that a file has for one usage type alone."""
    (part,) = EACH_STATEMENT.findall(text)
    return usage_type.written(part)
