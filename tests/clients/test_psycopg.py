"""psycopg 3: parameters, binary results, types, cursors, cancelling, errors."""
import datetime
import decimal
import threading
import uuid

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

UTC = datetime.timezone.utc


@pytest.fixture
def connection(node):
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("in_binary", [False, True])
def test_rows_come_as_python_values(connection, in_binary):
    rows = connection.cursor(binary=in_binary).execute("SELECT id, carrier, delay, departed, cancelled FROM flights ORDER BY id")
    assert rows.fetchall() == [
        (1, "UA", 2.5, datetime.datetime(2013, 1, 1, 5, 15, tzinfo=UTC), False),
        (2, "AA", -1.0, datetime.datetime(2013, 1, 1, 5, 29, tzinfo=UTC), False),
        (3, None, None, None, True),
        (4, "O'Hare \"x\", é", 0.125, datetime.datetime(2013, 6, 30, 23, 59, 59, 999999, tzinfo=UTC), None),
    ]


@pytest.mark.parametrize("placeholder", ["%s", "%b", "%t"])
def test_parameters_find_rows(connection, placeholder):
    for column, value, ids in [
        ("id", 2, [2]), ("carrier", "UA", [1]), ("delay", 0.125, [4]), ("cancelled", True, [3]),
        ("departed", datetime.datetime(2013, 1, 1, 5, 29, tzinfo=UTC), [2]), ("carrier", "'; DROP STREAM flights; --", []),
    ]:
        rows = connection.execute(f"SELECT id FROM flights WHERE {column} = {placeholder} ORDER BY id", [value])
        assert [row[0] for row in rows] == ids, (column, value)


def test_a_null_parameter_and_a_repeated_one(connection):
    assert connection.execute("SELECT %s::text IS NULL", [None]).fetchone() == (True,)
    rows = connection.execute("SELECT id FROM flights WHERE id > %(n)s OR id + 2 = %(n)s ORDER BY id", {"n": 3})
    assert rows.fetchall() == [(1,), (4,)]


def test_a_prepared_statement_runs_again_and_again(connection):
    for id_ in [1, 2, 3, 4] * 5:
        row = connection.execute("SELECT id FROM flights WHERE id = %s", [id_], prepare=True).fetchone()
        assert row == (id_,)


@pytest.mark.parametrize("in_binary", [False, True])
def test_every_type_goes_round(node, connection, in_binary):
    name = f"kinds_{'binary' if in_binary else 'text'}"
    connection.execute(
        f"CREATE STREAM {name} (b BOOLEAN, si SMALLINT, i INT, bi BIGINT, r REAL, d DOUBLE PRECISION, dec DECIMAL(12,3), "
        "t TEXT, by BYTEA, day DATE, tm TIME, ts TIMESTAMP, tz TIMESTAMPTZ, u UUID, j JSON, list INT[])"
    )
    node.ingest(name, [{
        "b": True, "si": -32768, "i": 2147483647, "bi": 2**53 + 1, "r": 0.5, "d": -1e300, "dec": "123456789.125",
        "t": "naïve", "day": "2013-01-31", "tm": "13:14:15.000001", "ts": "2013-01-31T13:14:15.5",
        "tz": "2013-01-31T13:14:15-05:00", "u": "2f6a1bd0-8f3e-4a52-9d2c-0123456789ab", "j": {"k": [1, None]}, "list": [1, None, 3],
    }])
    sql = f"SELECT b, si, i, bi, r, d, dec, t, day, tm, ts, tz, u, j, list, by FROM {name}"
    row = connection.cursor(binary=in_binary).execute(sql).fetchone()
    assert row == (
        True, -32768, 2147483647, 2**53 + 1, 0.5, -1e300, decimal.Decimal("123456789.125"), "naïve",
        datetime.date(2013, 1, 31), datetime.time(13, 14, 15, 1), datetime.datetime(2013, 1, 31, 13, 14, 15, 500000),
        datetime.datetime(2013, 1, 31, 18, 14, 15, tzinfo=UTC), uuid.UUID("2f6a1bd0-8f3e-4a52-9d2c-0123456789ab"),
        {"k": [1, None]}, [1, None, 3], None,
    )


def test_columns_have_postgresql_types(connection):
    cursor = connection.execute("SELECT id, carrier, delay, departed, cancelled, count(*) OVER () AS n FROM flights")
    assert [(c.name, c.type_code) for c in cursor.description] == [
        ("id", 20), ("carrier", 25), ("delay", 701), ("departed", 1184), ("cancelled", 16), ("n", 20),
    ]


def test_a_large_result_streams(connection):
    cursor = connection.cursor()
    total = sum(row[0] for row in cursor.stream("SELECT value FROM generate_series(1, 200000)"))
    assert total == 200000 * 200001 // 2


def test_a_server_side_cursor_fetches_in_parts(node):
    with psycopg.connect(node.dsn) as connection, connection.cursor(name="parts") as cursor:
        cursor.execute("SELECT id FROM flights ORDER BY id")
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        assert cursor.fetchmany(3) == [(4,)]


@pytest.mark.parametrize("sql, error", [
    ("SELECT * FROM nowhere", "UndefinedTable"), ("SELECT missing FROM flights", "UndefinedColumn"),
    ("SELEC 1", "SyntaxError"), ("SELECT 1/0", "DivisionByZero"), ("SELECT CAST('x' AS INT)", "InvalidTextRepresentation"),
])
def test_an_error_has_its_class_and_the_connection_goes_on(connection, sql, error):
    with pytest.raises(getattr(psycopg.errors, error)):
        connection.execute(sql)
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_error_ends_a_transaction_until_rollback(node):
    with psycopg.connect(node.dsn) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


# Runs for minutes unless it is stopped.
ENDLESS = "SELECT count(*) FROM generate_series(1, 3000000) a(x), generate_series(1, 3000000) b(y) WHERE (x * y) % 7 = 3"


def test_a_query_is_cancelled_from_elsewhere(connection, node):
    canceller = threading.Timer(0.5, connection.cancel_safe)
    canceller.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(ENDLESS)
    canceller.join()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_timeout_ends_a_query(connection):
    connection.execute("SET statement_timeout = '300ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(ENDLESS)
    connection.execute("SET statement_timeout = 0")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_pipeline_answers_in_order(connection):
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", [n]) for n in range(10)]
    assert [c.fetchone()[0] for c in cursors] == list(range(10))


def test_point_reads_on_a_view_are_prepared_and_shared(node):
    node.sql("CREATE STREAM point_reads (id BIGINT, word TEXT)")
    node.ingest("point_reads", [{"id": i, "word": f"w{i % 7}"} for i in range(50)])
    node.sql("CREATE MATERIALIZED VIEW point_words AS SELECT word, count(*) AS n, max(id) AS last FROM point_reads GROUP BY word")
    node.sql("FLUSH")
    read = "SELECT n, last FROM point_words WHERE word = %s"
    with psycopg.connect(node.dsn, autocommit=True) as one, psycopg.connect(node.dsn) as other:
        for prepare in [True, False, None]:
            for connection in [one, other]:
                for in_binary in [False, True]:
                    row = connection.execute(read, ["w1"], prepare=prepare, binary=in_binary).fetchone()
                    assert row == (len(range(1, 50, 7)), 43), (prepare, row)
                    assert connection.execute(read, [None], prepare=prepare).fetchall() == []
        several = one.execute("SELECT word FROM point_words WHERE word = ANY(%s) ORDER BY word", [["w5", "w2", "none"]])
        assert several.fetchall() == [("w2",), ("w5",)]
        node.sql("DROP MATERIALIZED VIEW point_words")
        with pytest.raises(psycopg.errors.UndefinedTable):
            one.execute(read, ["w1"], prepare=True)
