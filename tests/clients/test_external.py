"""A Delta table under two hands: deltalake writes what Millstream reads and changes, and reads what Millstream wrote."""
import contextlib
import threading

import pytest

from node import Refused

deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


@pytest.fixture
def shared(start, tmp_path):
    """A node whose files' root is a folder of the test's, and that folder."""
    folder = tmp_path / "shared"
    folder.mkdir()
    home = tmp_path / "node"
    home.mkdir()
    return start(home, MILLSTREAM_FILES_ROOT=str(folder)), folder


def some(ids, name="n"):
    return pyarrow.table({
        "id": pyarrow.array(ids, pyarrow.int64()),
        "name": [f"{name}{i}" for i in ids],
        "part": [f"p {i % 3}/é" for i in ids],
        "at": pyarrow.array([1_700_000_000_000_000 + i for i in ids], pyarrow.timestamp("us", tz="UTC")),
    })


def everything(path):
    """Every row as deltalake reads it: id and name."""
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(str(path)))
    rows = pyarrow.table(query.execute("SELECT id, name FROM t").read_all())
    return sorted(zip(rows.column("id").to_pylist(), rows.column("name").to_pylist()))


def test_what_deltalake_wrote_is_read_and_changed(shared):
    node, folder = shared
    path = folder / "orders"
    deltalake.write_deltalake(str(path), some(range(100)), partition_by=["part"])
    node.sql("CREATE TABLE orders LOCATION 'orders'")
    assert node.sql("SELECT count(*), sum(id), min(at) < max(at) FROM orders WHERE part = 'p 1/é'") == [[33, 1617, True]]
    node.sql("CREATE STREAM seen (id BIGINT)")
    node.ingest("seen", [{"id": 5}, {"id": 500}])
    assert node.sql("SELECT name FROM orders JOIN seen ON seen.id = orders.id") == [["n5"]]
    node.sql("UPDATE orders SET name = 'ours', part = 'moved' WHERE id < 2")
    node.sql("DELETE FROM orders WHERE id >= 90")
    node.sql("INSERT INTO orders (id, name) VALUES (1000, 'new')")
    node.sql("MERGE INTO orders USING seen ON orders.id = seen.id WHEN MATCHED THEN UPDATE SET name = 'seen' "
             "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (seen.id, 'added')")
    expected = {i: f"n{i}" for i in range(90)} | {0: "ours", 1: "ours", 1000: "new", 5: "seen", 500: "added"}
    assert everything(path) == sorted(expected.items())
    # What deltalake does next is in the next statement.
    deltalake.write_deltalake(str(path), some([2000, 2001], "theirs"), mode="append")
    deltalake.DeltaTable(str(path)).delete("id < 10")
    expected = {i: n for i, n in expected.items() if i >= 10} | {2000: "theirs2000", 2001: "theirs2001"}
    assert node.sql("SELECT id, name FROM orders ORDER BY id") == [list(row) for row in sorted(expected.items())]
    deltalake.DeltaTable(str(path)).optimize.compact()
    node.sql("DELETE FROM orders WHERE id = 2000")
    expected.pop(2000)
    assert everything(path) == sorted(expected.items())


def test_a_column_that_deltalake_adds_is_there(shared):
    node, folder = shared
    deltalake.write_deltalake(str(folder / "t"), some([1]))
    node.sql("CREATE TABLE t LOCATION 't'")
    assert node.sql("SELECT count(*) FROM t") == [[1]]
    more = some([2]).append_column("more", pyarrow.array(["x"]))
    deltalake.write_deltalake(str(folder / "t"), more, mode="append", schema_mode="merge")
    assert node.sql("SELECT count(*) FROM t") == [[2]]
    assert node.sql("SELECT id, more FROM t ORDER BY id") == [[1, None], [2, "x"]]


def test_two_writers_at_once_lose_no_commit(shared):
    node, folder = shared
    path = str(folder / "both")
    node.sql("CREATE TABLE both (id BIGINT, name TEXT, part TEXT, at TIMESTAMPTZ) LOCATION 'both'")
    failures = []

    def theirs():
        try:
            done = 0
            while done < 15:
                # It refuses an append whose look at the table is from before rows went; nothing is changed then.
                with contextlib.suppress(deltalake.exceptions.CommitFailedError):
                    deltalake.write_deltalake(path, some([10_000 + done]), mode="append")
                    done += 1
        except Exception as error:
            failures.append(error)

    writer = threading.Thread(target=theirs)
    writer.start()
    for i in range(15):
        node.sql(f"INSERT INTO both (id, name) VALUES ({i}, 'ours')")
        try:
            node.sql(f"UPDATE both SET name = 'changed' WHERE id = {i}")
        except Refused as clash:
            assert "serialization_failure" in str(clash)
    writer.join()
    assert not failures, failures
    assert node.sql("SELECT count(*), count(DISTINCT id) FROM both") == [[30, 30]]
    assert len(everything(path)) == 30


def test_what_millstream_made_and_converted_is_a_table_for_deltalake(shared):
    node, folder = shared
    node.sql("CREATE TABLE made (id BIGINT NOT NULL, name TEXT, day DATE) PARTITIONED BY (day) LOCATION 'made'")
    node.sql("INSERT INTO made VALUES (1, 'a', '2026-01-01'), (2, 'b', NULL)")
    assert everything(folder / "made") == [(1, "a"), (2, "b")]
    with pytest.raises(Refused, match="not_null_violation"):
        node.sql("INSERT INTO made (name) VALUES ('x')")
    import pyarrow.parquet
    for day, ids in (("2026-01-01", range(50)), ("2026-01-02", range(50, 60))):
        place = folder / "raw" / f"day={day}"
        place.mkdir(parents=True)
        pyarrow.parquet.write_table(some(ids), place / "a b.parquet")
    node.sql("CONVERT TO DELTA parquet.'raw' PARTITIONED BY (day DATE)")
    assert [i for i, _ in everything(folder / "raw")] == list(range(60))
    table = deltalake.DeltaTable(str(folder / "raw"))
    assert len(table.files() if hasattr(table, "files") else table.file_uris()) == 2
    node.sql("CREATE TABLE raw LOCATION 'raw'")
    assert node.sql("SELECT day, count(*) FROM raw GROUP BY day ORDER BY day") == [["2026-01-01", 50], ["2026-01-02", 10]]
    node.sql("DELETE FROM raw WHERE id % 2 = 0")
    assert [i for i, _ in everything(folder / "raw")] == list(range(1, 60, 2))
    with pytest.raises(Refused, match="Delta table already"):
        node.sql("CONVERT TO DELTA parquet.'raw' PARTITIONED BY (day DATE)")
