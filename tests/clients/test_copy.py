"""COPY: psycopg's, psql's \\copy, asyncpg's records, files on the node's side."""
import datetime
import decimal

import pytest

from conftest import run, tool

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

UTC = datetime.timezone.utc
ROWS = [
    (1, "a\tb\\n", decimal.Decimal("1.50"), datetime.datetime(2026, 11, 21, 5, 6, 7, tzinfo=UTC), [1, None], True),
    (2, None, None, None, None, None),
    (3, "", decimal.Decimal("-2.25"), None, [], False),
]
COLUMNS = "id BIGINT NOT NULL, name TEXT, amount DECIMAL(10,2), at TIMESTAMPTZ, counts INT[], ok BOOLEAN"


@pytest.fixture(params=["STREAM", "TABLE"])
def target(node, request):
    """The name of an empty stream or table."""
    name = f"copied_{request.param.lower()}"
    node.sql(f"CREATE {request.param} {name} ({COLUMNS})")
    yield name
    node.sql(f"DROP {request.param} {name}")


@pytest.fixture
def connection(node):
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        yield connection


def test_rows_of_psycopg_go_in_and_come_out(connection, target):
    cursor = connection.cursor()
    with cursor.copy(f"COPY {target} FROM STDIN") as copy:
        for row in ROWS:
            copy.write_row(row)
    assert cursor.rowcount == len(ROWS)
    assert connection.execute(f"SELECT * FROM {target} ORDER BY id").fetchall() == ROWS
    with cursor.copy(f"COPY (SELECT * FROM {target} ORDER BY id) TO STDOUT") as copy:
        copy.set_types(["int8", "text", "numeric", "timestamptz", "int4[]", "bool"])
        assert list(copy.rows()) == ROWS


def test_binary_rows_of_psycopg_go_in_and_come_out(connection, target):
    types = ["int8", "text", "numeric", "timestamptz", "int4[]", "bool"]
    with connection.cursor().copy(f"COPY {target} FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(types)
        for row in ROWS:
            copy.write_row(row)
    with connection.cursor().copy(f"COPY (SELECT * FROM {target} ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(types)
        assert list(copy.rows()) == ROWS


@pytest.mark.parametrize("form", ["text", "binary"])
def test_intervals_of_psycopg_go_in_and_come_out(node, connection, form):
    node.sql("CREATE TABLE durations (id INT, took INTERVAL)")
    rows = [(1, datetime.timedelta(days=3, seconds=5.5)), (2, datetime.timedelta(hours=1)), (3, -datetime.timedelta(minutes=90)), (4, None)]
    try:
        with connection.cursor().copy(f"COPY durations FROM STDIN (FORMAT {form})") as copy:
            copy.set_types(["int4", "interval"])
            for row in rows:
                copy.write_row(row)
        assert connection.execute("SELECT * FROM durations ORDER BY id").fetchall() == rows
        with connection.cursor().copy(f"COPY (SELECT * FROM durations ORDER BY id) TO STDOUT (FORMAT {form})") as copy:
            copy.set_types(["int4", "interval"])
            assert list(copy.rows()) == rows
        with connection.cursor().copy("COPY durations TO STDOUT") as copy:
            written = b"".join(copy)
        with connection.cursor().copy("COPY durations FROM STDIN") as copy:
            copy.write(written)
        assert connection.execute("SELECT count(*), count(DISTINCT took) FROM durations").fetchone() == (8, 3)
    finally:
        node.sql("DROP TABLE durations")


def test_a_copy_that_fails_adds_nothing(connection, target):
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="line 2.*id"):
        with connection.cursor().copy(f"COPY {target} (id, name) FROM STDIN") as copy:
            copy.write("1\ta\nx\tb\n")
    with pytest.raises(ZeroDivisionError):
        with connection.cursor().copy(f"COPY {target} (id, name) FROM STDIN") as copy:
            copy.write("1\ta\n")
            raise ZeroDivisionError
    assert connection.execute(f"SELECT count(*) FROM {target}").fetchone() == (0,)


def test_many_rows_stream_through(connection, target):
    with connection.cursor().copy(f"COPY {target} (id, name) FROM STDIN (FORMAT csv)") as copy:
        for start in range(0, 200_000, 1000):
            copy.write("".join(f"{i},n{i}\n" for i in range(start, start + 1000)))
    assert connection.execute(f"SELECT count(*), sum(id) FROM {target}").fetchone() == (200_000, 199_999 * 100_000)


def test_psql_copies_both_ways(node, target, tmp_path):
    psql = [tool("psql"), "-X", "-h", node.pg_host, "-p", node.pg_port, "-U", "tester", "-d", "millstream", "-v", "ON_ERROR_STOP=1"]
    source, result = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,name\n1,\"a,b\"\n2,\n")
    status, out, err = run(*psql, "-c", f"\\copy {target} (id, name) FROM '{source}' WITH (FORMAT csv, HEADER)")
    assert (status, out) == (0, "COPY 2\n"), err
    status, out, err = run(*psql, "-c", f"\\copy (SELECT id, name FROM {target} ORDER BY id) TO '{result}' CSV HEADER")
    assert status == 0, err
    assert result.read_text() == source.read_text()


def test_asyncpg_copies_records(node, target):
    asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    import asyncio

    async def copy():
        connection = await asyncpg.connect(host=node.pg_host, port=int(node.pg_port), user="tester", database="millstream")
        try:
            await connection.copy_records_to_table(target, records=[(1, "a"), (2, None)], columns=["id", "name"])
            return [tuple(r) for r in await connection.fetch(f"SELECT id, name FROM {target} ORDER BY id")]
        finally:
            await connection.close()

    assert asyncio.run(copy()) == [(1, "a"), (2, None)]
