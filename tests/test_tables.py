"""Tables on their way to disk and back: what does not fit is named, what is written is whole, what is damaged is refused."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.parquet as pq
import pytest
from pandera.typing import Series

from interp.errors import RunError
from interp.tables import TableSchema, checked, empty, read_table, read_tables, write_aside, write_table


class Reading(TableSchema):
    item_id: str = pa.Field(unique=True)
    layer: int = pa.Field(ge=0)
    score: float = pa.Field(ge=0.0, le=1.0, nullable=True)
    passed: bool
    token_ids: Series[object]


COLUMNS = ["model", "item_id", "layer", "score", "passed", "token_ids"]
ROWS = {
    "model": ["gpt2", "gpt2", "gpt2"],
    "item_id": ["a", "é \u2042", ""],
    "layer": [0, 1, 2**40],
    "score": [0.1, 1.0, np.nan],
    "passed": [True, False, True],
    "token_ids": [[5, 6, 2**31], [], [7]],
}


def frame(**changed) -> pd.DataFrame:
    return pd.DataFrame({**ROWS, **changed})


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    as_lists = [table.assign(token_ids=[list(ids) for ids in table["token_ids"]]) for table in (found, wanted)]
    pd.testing.assert_frame_equal(*as_lists, check_dtype=False)
    assert list(found.columns) == COLUMNS


# ---------------------------------------------------------------------- schemas


def test_columns_come_in_the_schemas_order_and_types_and_the_given_frame_stays_as_it_was():
    given = frame(layer=["0", "1", "2"], score=[0, 1, None])[COLUMNS[::-1]]
    table = checked(given, Reading)
    assert list(table.columns) == COLUMNS
    assert table["layer"].tolist() == [0, 1, 2]
    assert [str(table[name].dtype) for name in ("layer", "score", "passed")] == ["int64", "float64", "bool"]
    assert list(given.columns) == COLUMNS[::-1]
    assert given["layer"].tolist() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("missing", "unknown"), [(["model", "layer"], ["head"]), (["model"], []), ([], ["head", "depth"])]
)
def test_missing_and_unknown_columns_are_named(missing, unknown):
    given = frame(**dict.fromkeys(unknown, 1)).drop(columns=missing)
    with pytest.raises(ValueError, match=r"^table Reading: ") as caught:
        checked(given, Reading)
    assert f"missing columns {missing}, unknown columns {unknown}" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "offender"),
    [
        ("layer", [0, -7, 2], "-7"),
        ("score", [0.5, 1.25, 0.0], "1.25"),
        ("item_id", ["a", "twice", "twice"], "twice"),
        ("model", ["gpt2", None, "gpt2"], "null|NaN"),
        ("layer", ["0", "first", "2"], "first"),
        ("layer", [0.0, np.nan, 2.0], "NaN"),
        ("layer", [0.0, 1.5, 2.0], "1.5"),
        ("passed", [True, None, False], "None|NaN"),
        ("passed", ["yes", "no", "no"], "yes"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_table_and_column(column, values, offender):
    with pytest.raises(ValueError, match=rf"(?i)table Reading: (?s:.*){column}(?s:.*)({offender})"):
        checked(frame(**{column: values}), Reading)


# ---------------------------------------------------------------------- to disk and back


def test_a_table_comes_back_as_it_was_lists_and_nan_included(tmp_path):
    path = tmp_path / "deep" / "folder" / "readings.parquet"
    write_table(path, frame()[COLUMNS[::-1]], Reading)
    assert pq.read_schema(path).names == COLUMNS
    assert_same(read_table(path, Reading), frame())
    assert read_table(path, Reading)["token_ids"].map(list).tolist() == [[5, 6, 2**31], [], [7]]


def test_an_empty_table_keeps_its_columns_and_types(tmp_path):
    write_table(tmp_path / "none.parquet", empty(Reading), Reading)
    back = read_table(tmp_path / "none.parquet", Reading)
    assert back.empty
    assert list(back.columns) == COLUMNS
    assert back.dtypes.to_dict() == checked(frame(), Reading).dtypes.to_dict()
    joined = pd.concat([back, checked(frame(), Reading)], ignore_index=True)
    assert joined.dtypes.to_dict() == back.dtypes.to_dict()


def test_a_table_that_does_not_fit_is_not_written_and_the_old_one_stays(tmp_path):
    path = tmp_path / "readings.parquet"
    write_table(path, frame(), Reading)
    with pytest.raises(ValueError, match="layer"):
        write_table(path, frame(layer=[0, -1, 2]), Reading)
    assert_same(read_table(path, Reading), frame())
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("stop", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_writer_that_stops_halfway_leaves_the_old_file_and_no_half(tmp_path, old, stop):
    path = tmp_path / "notes.txt"
    if old:
        path.write_bytes(old)

    def write(aside: Path) -> None:
        aside.write_bytes(b"half of the n")
        raise stop

    with pytest.raises(type(stop)):
        write_aside(path, write)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == ({path.name: old} if old else {})


def test_a_file_gets_its_name_only_when_its_bytes_are_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"old")
    flushed = []

    def fsync(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_size, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_aside(path, lambda aside: aside.write_bytes(b"newer"))
    assert flushed == [(len(b"newer"), b"old")]
    assert path.read_bytes() == b"newer"


# ---------------------------------------------------------------------- what cannot be read


def refused(path: Path) -> str:
    """The sentence of a file that cannot be read; checks that it is one sentence that says what to do."""
    with pytest.raises(RunError) as caught:
        read_table(path, Reading)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} cannot be read (")
    assert sentence.endswith("): delete it and run the same command again.")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    "content", [None, b"", b"PAR1", b"PAR1 is not enough PAR1"], ids=["gone", "empty", "cut", "text"]
)
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    path = tmp_path / "readings.parquet"
    if content is not None:
        path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize(
    ("column", "values"), [("layer", [0, -7, 2]), ("layer", ["0", "first", "2"]), ("head", [1, 2, 3])]
)
def test_a_file_of_another_schema_is_named_with_the_column(tmp_path, column, values):
    path = tmp_path / "readings.parquet"
    frame(**{column: values}).to_parquet(path)
    assert column in refused(path)


def test_a_file_cut_or_changed_anywhere_gives_the_sentence_or_a_table_that_fits(tmp_path):
    path = tmp_path / "readings.parquet"
    write_table(path, frame(), Reading)
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place])
        refused(path)
    unexplained = {}
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 3]) + whole[place + 1 :])
        try:
            read_table(path, Reading)
        except RunError:
            refused(path)
        except Exception as error:
            unexplained[place] = repr(error)
    assert unexplained == {}


def test_tables_of_parts_are_read_as_one(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in "abc"]
    for name, path in zip("abc", paths, strict=True):
        write_table(path, frame(item_id=[f"{name}{row}" for row in range(3)]), Reading)
    together = read_tables(paths, Reading)
    assert together["item_id"].tolist() == ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]
    assert_same(together, pd.concat([read_table(path, Reading) for path in paths], ignore_index=True))
    assert read_tables([], Reading).empty
    paths[1].write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"b\.parquet cannot be read"):
        read_tables(paths, Reading)
