"""The lake is open: deltalake and polars read it while rows come in, and in the end they see what SQL sees."""
import threading

import pytest

from lake_readers import READERS, check_prefix
from node import RESTLESS

PARTITIONS = 2


def write(node, stop, counts, first=0):
    """Sends rising ids until told to stop."""
    next_id = first
    while not stop.is_set():
        node.ingest("growing", [{"id": next_id + n, "name": f"n{next_id + n}"} for n in range(100)])
        next_id += 100
        counts.append(next_id)


def read_while_writing(node, url, options, reader, looks=8):
    """Reads again and again while a writer writes; counts never shrink, and grow."""
    stop, counts, errors = threading.Event(), [], []

    def guarded():
        try:
            write(node, stop, counts)
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=guarded)
    writer.start()
    try:
        node.wait_for_first_file("growing")
        seen = []
        while len(set(seen)) < looks and not errors and len(seen) < 500:
            seen.append(check_prefix(READERS[reader](url, options), PARTITIONS))
            assert seen == sorted(seen), "a later version has fewer rows"
    finally:
        stop.set()
        writer.join()
    assert not errors, errors
    assert len(set(seen)) >= looks, f"the lake does not grow: {seen}"
    return counts[-1]


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_sees_consistent_prefixes_while_ingest_runs(start, reader):
    node = start(**RESTLESS)
    node.sql(f"CREATE STREAM growing (id BIGINT NOT NULL, name TEXT) PARTITION BY (id) WITH (partitions = {PARTITIONS})")
    written = read_while_writing(node, node.lake / "growing", None, reader)
    node.wait_for_lake("growing")
    rows = READERS[reader](node.lake / "growing", None)
    assert check_prefix(rows, PARTITIONS) == written
    by_sql = node.sql("SELECT _partition, _offset, id FROM growing")
    assert sorted(map(tuple, by_sql)) == sorted(rows)


def test_types_in_the_lake_are_those_of_the_stream(start):
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
    node = start(**RESTLESS)
    node.sql(
        "CREATE STREAM kinds (b BOOLEAN, si SMALLINT, i INT, bi BIGINT, r REAL, d DOUBLE PRECISION, dec DECIMAL(12,3), t TEXT, "
        "by BYTEA, day DATE, tm TIME, ts TIMESTAMP, tz TIMESTAMPTZ, u UUID, j JSON, list INT[], nested ROW(x INT, y TEXT))"
    )
    node.ingest("kinds", [{"b": True, "tz": "2013-01-01T00:00:00Z", "list": [1, 2], "nested": {"x": 1, "y": "z"}, "dec": "1.5"}])
    node.wait_for_lake("kinds")
    fields = {f.name: str(f.type) for f in deltalake.DeltaTable(str(node.lake / "kinds")).schema().fields}
    expected = {"b": "boolean", "si": "short", "i": "integer", "bi": "long", "r": "float", "d": "double", "t": "string",
                "by": "binary", "day": "date", "tm": "string", "ts": "timestamp_ntz", "tz": "timestamp", "u": "string", "j": "string"}
    assert {name: fields[name].split('"')[1] for name in expected} == expected
    assert "decimal(12,3)" in fields["dec"].replace(" ", "")
    rows = all_rows(deltalake, node.lake / "kinds")
    assert rows[0]["nested"] == {"x": 1, "y": "z"} and rows[0]["list"] == [1, 2] and rows[0]["b"] is True


def all_rows(deltalake, url):
    """Every row of a table as a dict."""
    import pyarrow
    table = deltalake.DeltaTable(str(url))
    try:
        return table.to_pyarrow_table().to_pylist()
    except Exception:  # pyarrow datasets refuse some table features that the query engine reads
        return pyarrow.table(deltalake.QueryBuilder().register("t", table).execute("SELECT * FROM t").read_all()).to_pylist()


def test_a_column_added_later_is_in_the_lake(start):
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
    node = start(**RESTLESS)
    node.sql("CREATE STREAM widening (id BIGINT)")
    node.ingest("widening", [{"id": 1}])
    node.wait_for_lake("widening")
    node.sql("ALTER STREAM widening ADD COLUMN later TEXT")
    node.ingest("widening", [{"id": 2, "later": "x"}])
    node.wait_for_lake("widening")
    assert node.sql("SELECT id, later FROM widening ORDER BY id") == [[1, None], [2, "x"]]
    rows = all_rows(deltalake, node.lake / "widening")
    assert sorted((row["id"], row["later"]) for row in rows) == [(1, None), (2, "x")]
