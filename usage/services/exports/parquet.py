"""Rows as a Parquet file, with exact decimals. Needs pyarrow, an optional package."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, BinaryIO

from usage.errors import ExportError
from usage.services.exports.column_kinds import KINDS, Kind

# The size of a row group: large enough that readers gain by skipping one, small enough for memory.
ROWS_PER_GROUP = 65_536


def write_parquet(
    file: BinaryIO,
    columns: Sequence[str],
    batches: Iterable[Sequence[Sequence[Any]]],
    about: Mapping[str, str],
) -> None:
    """Write each batch as a row group; `about` becomes the metadata of the file.

    Raises ExportError if pyarrow is missing, or if an amount does not fit decimal128(38, 8):
    nothing is rounded.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError as error:
        raise ExportError(
            "A Parquet file needs pyarrow. Run: pip install pyarrow, or use --format csv."
        ) from error
    types = {
        Kind.NUMBER: pyarrow.int64(),
        Kind.MONEY: pyarrow.decimal128(38, 8),
        Kind.DAY: pyarrow.date32(),
        Kind.MOMENT: pyarrow.timestamp("us", tz="UTC"),
        Kind.WORD: pyarrow.string(),
        Kind.FOREIGN: pyarrow.string(),
    }
    schema = pyarrow.schema([(name, types[KINDS[name]]) for name in columns], dict(about))
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            try:
                arrays = [
                    pyarrow.array(_read(KINDS[name], values), types[KINDS[name]])
                    for name, values in zip(columns, zip(*batch, strict=True), strict=True)
                ]
            except (pyarrow.ArrowInvalid, OverflowError) as error:
                raise ExportError(
                    f"A value does not fit a Parquet file: {error}. Use --format csv."
                ) from error
            writer.write_batch(pyarrow.record_batch(arrays, schema))


def _read(kind: Kind, values: Sequence[Any]) -> Sequence[Any]:
    """Return the values in types of pyarrow: the rows have money and moments as text, like JSON."""
    match kind:
        case Kind.MONEY:
            return [Decimal(value) for value in values]
        case Kind.MOMENT:
            return [datetime.fromisoformat(value) for value in values]
        case Kind.WORD:
            return [str(value) for value in values]
        case _:
            return values
