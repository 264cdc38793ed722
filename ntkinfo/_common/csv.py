"""CSV files as spreadsheets write them: separators and decimal marks are read off the file."""

import re
from pathlib import Path

SEPARATORS = ",;\t"
# The line of names is looked for in so many characters.
_LOOKED_AT = 1 << 16
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+([eE][-+]?\d+)?\s*")


def separator(path: Path) -> str:
    """What stands between the fields of the first line: a comma; where it has none, semicolons or tabulators."""
    if path.suffix in _COMPRESSED:
        return ","
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.read(_LOOKED_AT).lstrip("\r\n").partition("\n")[0]
    return "," if "," in line else max(SEPARATORS, key=line.count)


def with_decimal_point(cell: str) -> str:
    """A number with a comma before its decimals with a point there; other text as it is."""
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


def read(path: Path, **options):
    """`pandas.read_csv`, which is told the separator and the decimal comma where `options` do not name them."""
    import pandas as pd

    if not {"sep", "delimiter"} & set(options):
        options["sep"] = separator(path)
    options.setdefault("skipinitialspace", True)
    table = pd.read_csv(path, **options)
    if options.get("sep") == ";" and "decimal" not in options:
        texts = (table[name].dropna() for name in table.columns if not pd.api.types.is_numeric_dtype(table[name]))
        if any(len(column) and column.astype(str).str.fullmatch(_DECIMAL_COMMA).all() for column in texts):
            table = pd.read_csv(path, decimal=",", **options)
    return table
