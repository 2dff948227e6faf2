"""Tidy tables: schemas, and how tables are written and read.

A table is a pandas frame in long form: one row is one observation with its ids. A schema is a pandera model; every table
is checked against it on the way to disk and on the way back.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from interp.errors import RunError

Tables = Mapping[str, pd.DataFrame]


class TableSchema(pa.DataFrameModel):
    """Base of every table: the columns named and no others, values converted to their types, the model's name first."""

    model: str = pa.Field(nullable=False)

    class Config:
        """Pandera settings."""

        strict = True
        coerce = True
        ordered = False


Schemas = Mapping[str, type[TableSchema]]


def fraction(*, nullable: bool = False) -> Any:
    """Returns the field of a column of numbers between 0 and 1."""
    return pa.Field(ge=0.0, le=1.0, nullable=nullable)


def may_lack() -> Any:
    """Returns the field of a column that may be NaN. Each needs one of its own: pandera writes the column's name into it."""
    return pa.Field(nullable=True)


def schema_of(name: str, **columns: type) -> type[TableSchema]:
    """Returns the schema with these columns, beside the model's; numbers with a fraction may be NaN.

    For tables that a class of their own, with a word on each column, would not make clearer.
    """
    lacking = {column: may_lack() for column, kind in columns.items() if kind is float}
    return type(name, (TableSchema,), {"__annotations__": columns, **lacking})


def checked(frame: pd.DataFrame, schema: type[TableSchema]) -> pd.DataFrame:
    """Returns the frame with the schema's columns, in the schema's order and types.

    Raises ValueError, naming the table, column and first offending value, when it does not fit.
    """
    columns = list(schema.to_schema().columns)
    missing = [column for column in columns if column not in frame.columns]
    extra = [column for column in frame.columns if column not in columns]
    if missing or extra:
        raise ValueError(f"table {schema.__name__}: missing columns {missing}, unknown columns {extra}")
    try:
        table = schema.validate(frame[columns], lazy=True)
    except SchemaErrors as error:
        first = error.failure_cases.iloc[0]
        raise ValueError(
            f"table {schema.__name__}: column {first['column']}: {first['failure_case']} does not fit ({first['check']})"
        ) from error
    for column in columns:
        _check_conversion(schema.__name__, frame[column], table[column])
    return table


def _check_conversion(table: str, given: pd.Series, taken: pd.Series) -> None:
    """Raises ValueError for a value that conversion to the column's type would change."""
    if given.dtype == taken.dtype or not len(given):
        return
    if pd.api.types.is_numeric_dtype(taken) and not pd.api.types.is_bool_dtype(taken):
        given = pd.to_numeric(given)
    same = (given.astype(object).to_numpy() == taken.astype(object).to_numpy()) | (
        given.isna() & taken.isna()
    ).to_numpy()
    if not same.all():
        raise ValueError(
            f"table {table}: column {given.name}: {given.iloc[int((~same).argmax())]} is not of type {taken.dtype}"
        )


def named(tables: Tables, model: str) -> dict[str, pd.DataFrame]:
    """Returns the tables with the model's name in the column `model`, which every schema begins with."""
    return {name: table.assign(model=model) for name, table in tables.items()}


def empty(schema: type[TableSchema]) -> pd.DataFrame:
    """Returns a table of that schema with no rows."""
    return _empty(schema).copy()


@cache
def _empty(schema: type[TableSchema]) -> pd.DataFrame:
    """Made once: every wave of a run's plan asks for tables that nothing has been measured for."""
    return checked(pd.DataFrame({column: [] for column in schema.to_schema().columns}), schema)


def of_runs(runs: Mapping[str, Tables], name: str) -> pd.DataFrame:
    """Returns one table of several runs, one below the other, with each run's label in the column `run`."""
    return pd.concat([tables[name].assign(run=label) for label, tables in runs.items()], ignore_index=True)


def write_table(path: Path, frame: pd.DataFrame, schema: type[TableSchema]) -> None:
    """Writes a checked table as parquet, to a temporary file that is then renamed: the file is complete or absent."""
    table = checked(frame, schema)
    write_aside(path, lambda aside: table.to_parquet(aside, index=False))


def read_table(path: Path, schema: type[TableSchema]) -> pd.DataFrame:
    """Returns a table from parquet, checked.

    Raises RunError, naming the file, when it is damaged or of another schema.
    """
    try:
        return checked(pd.read_parquet(path), schema)
    except Exception as error:  # damaged parquet raises errors of many types
        first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RunError(f"{path} cannot be read ({first_line}): delete it and run the same command again.") from error


def read_tables(paths: Sequence[Path], schema: type[TableSchema]) -> pd.DataFrame:
    """Returns the rows of several tables of one schema, in that order, checked together.

    Raises RunError, naming the first file that is damaged or of another schema.
    """
    if not paths:
        return empty(schema)
    try:
        return checked(pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True), schema)
    except Exception:  # damaged parquet raises errors of many types
        for path in paths:
            read_table(path, schema)  # says which it is
        raise


def write_aside(path: Path, write: Any) -> None:
    """Calls `write(temporary path)` and renames the result to `path` once it is safely on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(aside)
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
