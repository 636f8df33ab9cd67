"""Old files at a cold place: one table for SQL, and what readers that others wrote make of files named by URLs."""
import pytest

from node import RESTLESS, poll


@pytest.fixture
def aged(start, tmp_path):
    """A node, and a table of 100 rows whose older half lies at a cold place."""
    node = start(tmp_path, **RESTLESS, MILLSTREAM_FILES_ROOT=str(tmp_path))
    node.sql("CREATE TABLE aged (id BIGINT PRIMARY KEY, name TEXT, at TIMESTAMPTZ, price DECIMAL(9,2))")
    insert = "INSERT INTO aged SELECT i, 'n' || i, TIMESTAMP '2026-01-01 00:00:00', i * 1.25 FROM generate_series({}, {}) AS g(i)"
    node.sql(insert.format(0, 49))
    node.sql("FLUSH aged")
    node.sql(f"ALTER TABLE aged SET (warm = '1 ms', cold = 'file://{tmp_path}/cold', optimize = 'off')")
    moved = "SELECT cold_files, lake_files - cold_files FROM system.tables WHERE name = 'aged'"
    poll("the files to move", lambda: True if [int(n) for n in node.sql(moved)[0]] == [1, 0] else None)
    node.sql("ALTER TABLE aged SET (warm = '1 day')")
    node.sql(insert.format(50, 99))
    node.sql("FLUSH aged")
    assert [int(n) for n in node.sql(moved)[0]] == [1, 1]
    return node


def test_sql_reads_both_places_as_one(aged):
    assert aged.sql("SELECT count(*), sum(id), min(name) FROM aged") == [[100, 4950, "n0"]]
    aged.sql("UPDATE aged SET name = 'changed' WHERE id IN (3, 77)")
    aged.sql("DELETE FROM aged WHERE id = 4")
    aged.sql("FLUSH aged")
    assert aged.sql("SELECT count(*), sum(id) FROM aged") == [[99, 4946]]
    assert aged.sql("SELECT id FROM aged WHERE name = 'changed' ORDER BY id") == [[3], [77]]


def test_delta_rs_reads_both_places_by_its_query_builder(aged):
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = deltalake.DeltaTable(str(aged.lake / "aged"))
    found = pyarrow.table(deltalake.QueryBuilder().register("t", table).execute("SELECT id FROM t").read_all())
    assert sorted(found.column("id").to_pylist()) == list(range(100))


def test_a_reader_that_does_not_follow_urls_fails_and_leaves_no_row_out(aged):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    pytest.importorskip("deltalake", reason="deltalake is not installed")
    try:
        ids = polars.scan_delta(str(aged.lake / "aged")).select("id").collect()["id"].to_list()
    except FileNotFoundError:
        return
    assert sorted(ids) == list(range(100)), "it follows URLs by now: say so in docs/sql.md"
