"""Rows that change: INSERT, UPDATE, DELETE through psycopg and SQLAlchemy, in blocks and out of them."""
import datetime
import decimal
import uuid

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")


@pytest.fixture
def table(node, request):
    """A fresh table's name."""
    name = request.node.name.split("[")[0][:50]
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} (id BIGINT PRIMARY KEY, name TEXT DEFAULT 'none', n INT, price DECIMAL(8,2))")
    return name


def rows(node, table):
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        return connection.execute(f"SELECT id, name, n, price FROM {table} ORDER BY id").fetchall()


def test_a_block_of_changes_is_committed(node, table):
    with psycopg.connect(node.dsn) as connection:
        connection.execute(f"INSERT INTO {table} VALUES (%s, %s, %s, %s)", [1, "a", 2, decimal.Decimal("1.25")])
        updated = connection.execute(f"UPDATE {table} SET n = n + %s WHERE id = %s RETURNING n", [5, 1])
        assert updated.fetchone() == (7,) and updated.statusmessage == "UPDATE 1"
    assert rows(node, table) == [(1, "a", 7, decimal.Decimal("1.25"))]


def test_a_rollback_behind_a_change_says_that_it_stays(node, table):
    connection = psycopg.connect(node.dsn)
    connection.execute(f"INSERT INTO {table} (id) VALUES (1)")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        connection.rollback()
    assert "stays changed" in str(refused.value) and refused.value.diag.message_hint
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    connection.execute(f"SELECT * FROM {table}")
    connection.rollback()
    connection.close()
    assert len(rows(node, table)) == 1


def test_many_rows_by_executemany(node, table):
    with psycopg.connect(node.dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} (id, name, n) VALUES (%s, %s, %s)", [(i, f"n{i}", None) for i in range(50)])
        assert cursor.rowcount == 50
        cursor.executemany(
            f"INSERT INTO {table} (id, n) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET n = excluded.n RETURNING id, name",
            [(1, 5), (99, 6)], returning=True,
        )
        assert cursor.fetchone() == (1, "n1") and cursor.nextset() and cursor.fetchone() == (99, "none")
    assert len(rows(node, table)) == 51


def test_a_key_that_is_there_is_refused_by_name(node, table):
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        connection.execute(f"INSERT INTO {table} (id) VALUES (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(f"INSERT INTO {table} (id) VALUES (1)")
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            connection.execute(f"UPDATE {table} SET n = 10000000000")


@pytest.mark.parametrize("in_binary", [False, True])
def test_values_of_every_type_are_kept(node, in_binary):
    name = f"kept_{'binary' if in_binary else 'text'}"
    values = [
        True, 1, 2, 3, 0.5, 0.25, decimal.Decimal("1.234"), "t", b"\x00\xff", datetime.date(2020, 2, 29),
        datetime.time(1, 2, 3), datetime.datetime(2020, 2, 29, 1, 2, 3), datetime.datetime(2020, 2, 29, tzinfo=datetime.timezone.utc),
        uuid.UUID(int=7), [1, None, 3],
    ]
    placeholder = "%b" if in_binary else "%t"
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE {name} (b BOOLEAN, si SMALLINT, i INT, bi BIGINT, r REAL, d DOUBLE PRECISION, dec DECIMAL(12,3), "
            "t TEXT, by BYTEA, day DATE, tm TIME, ts TIMESTAMP, tz TIMESTAMPTZ, u UUID, list INT[])"
        )
        sql = f"INSERT INTO {name} VALUES ({', '.join([placeholder] * len(values))})"
        connection.execute(sql, values)
        assert list(connection.execute(f"SELECT * FROM {name}").fetchone()) == values


def test_sqlalchemy_inserts_updates_and_deletes(node, table):
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    from sqlalchemy.orm import Session, declarative_base

    class Row(declarative_base()):
        __tablename__ = table
        id = sqlalchemy.Column(sqlalchemy.BigInteger, primary_key=True, autoincrement=False)
        name = sqlalchemy.Column(sqlalchemy.Text, server_default="none")
        n = sqlalchemy.Column(sqlalchemy.Integer)

    engine = sqlalchemy.create_engine(f"postgresql+psycopg://tester@{node.pg}/millstream")
    with Session(engine) as session:
        session.add_all([Row(id=1, n=1), Row(id=2, name="two", n=2), Row(id=3, name="three")])
        session.commit()
        assert session.get(Row, 1).name == "none"
        session.get(Row, 2).n = 20
        session.delete(session.get(Row, 3))
        session.commit()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.update(Row).where(Row.id == 1).values(n=Row.n + 10))
        from sqlalchemy.dialects.postgresql import insert
        upsert = insert(Row).values([{"id": 1, "n": 5}, {"id": 4, "n": 4}])
        connection.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"n": Row.n + upsert.excluded.n}))
    assert [(r[0], r[1], r[2]) for r in rows(node, table)] == [(1, "none", 16), (2, "two", 20), (4, "none", 4)]
    engine.dispose()


def with_asyncpg(node, run):
    """Runs a coroutine of one connection."""
    asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    import asyncio

    async def connected():
        connection = await asyncpg.connect(host=node.pg_host, port=int(node.pg_port), user="tester", database="millstream")
        try:
            await run(connection)
        finally:
            await connection.close()

    asyncio.run(connected())


def test_asyncpg_prepares_and_runs_changes(node, table):
    async def run(connection):
        await connection.executemany(f"INSERT INTO {table} (id, name, n) VALUES ($1, $2, $3)", [(1, "a", 1), (2, "b", None)])
        assert await connection.execute(f"UPDATE {table} SET n = $1 WHERE id = $2", 9, 2) == "UPDATE 1"
        async with connection.transaction():
            assert await connection.fetchval(f"DELETE FROM {table} WHERE id = $1 RETURNING name", 1) == "a"

    with_asyncpg(node, run)
    assert rows(node, table) == [(2, "b", 9, None)]


def test_asyncpg_gives_and_takes_arrays(node, table):
    import datetime
    import decimal

    async def run(connection):
        await connection.executemany(f"INSERT INTO {table} (id, name, n) VALUES ($1, $2, $3)", [(i, str(i), i) for i in range(6)])
        assert await connection.execute(f"DELETE FROM {table} WHERE id = ANY($1)", [1, 2]) == "DELETE 2"
        found = await connection.fetch(f"SELECT id FROM {table} WHERE n = ANY($1::int[]) ORDER BY id", [0, 3, 9])
        assert [row[0] for row in found] == [0, 3]
        at = datetime.datetime(2020, 1, 1, 10, 30)
        for kind, values in [
            ("int", [1, None, -3]),
            ("smallint", [1, 2]),
            ("bigint", [1 << 40, 2]),
            ("real", [1.5, None]),
            ("double precision", [0.1, 2.5]),
            ("numeric(10,2)", [decimal.Decimal("1.25"), decimal.Decimal("-3.00")]),
            ("boolean", [True, False, None]),
            ("timestamp", [at, None]),
            ("timestamptz", [at.replace(tzinfo=datetime.timezone.utc)]),
            ("date", [at.date()]),
            ("text", ["a", None]),
        ]:
            assert await connection.fetchval(f"SELECT $1::{kind}[]", values) == values, kind
        assert await connection.fetchval("SELECT array[1, 2]::bigint[]") == [1, 2]

    with_asyncpg(node, run)
