"""What a connection has for itself: a search path and temporary tables."""
import pytest

from conftest import run, tool

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")


@pytest.fixture(scope="module")
def schemas(node):
    for sql in ("CREATE SCHEMA ops", "CREATE TABLE ops.jobs (id int PRIMARY KEY, name text)", "INSERT INTO ops.jobs VALUES (1, 'first')"):
        node.sql(sql)
    return node


def test_a_search_path_comes_with_the_connection(schemas):
    with psycopg.connect(schemas.dsn, options="-c search_path=ops,public", autocommit=True) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("ops,public",)
        assert connection.execute("SELECT current_schema()").fetchone() == ("ops",)
        assert connection.execute("SELECT name FROM jobs WHERE id = %s", (1,)).fetchone() == ("first",)
        assert connection.execute("SELECT count(*) FROM flights").fetchone() == (4,)
        connection.execute("CREATE TABLE made (a int)")
        connection.execute("INSERT INTO made VALUES (%s)", (5,))
    assert schemas.sql("SELECT a FROM ops.made")[0][0] in (5, "5")


def test_psql_lists_what_the_path_shows(schemas):
    path = tool("psql")
    command = [path, "-X", "-h", schemas.pg_host, "-p", schemas.pg_port, "-U", "someone", "-d", "any"]
    status, out, err = run(*command, "-c", "SET search_path = ops", "-c", r"\dt", "-c", r"\d jobs")
    assert status == 0 and "jobs_pkey" in out and "flights" not in out, out + err


def test_sqlalchemy_reads_the_schema_of_the_path(schemas):
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    engine = sqlalchemy.create_engine(
        f"postgresql+psycopg://tester@{schemas.pg}/millstream", connect_args={"options": "-c search_path=ops"},
    )
    inspector = sqlalchemy.inspect(engine)
    assert inspector.default_schema_name == "ops"
    assert "jobs" in inspector.get_table_names() and "flights" not in inspector.get_table_names()
    assert inspector.get_pk_constraint("jobs")["constrained_columns"] == ["id"]
    engine.dispose()


def test_a_temporary_table_takes_a_copy_and_is_gone_with_its_connection(schemas):
    with psycopg.connect(schemas.dsn, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE staged (id int PRIMARY KEY, name text)")
        with connection.cursor().copy("COPY staged FROM STDIN") as copy:
            for i in range(1000):
                copy.write_row((i, f"n{i}"))
        assert connection.execute("SELECT count(*), max(name) FROM staged").fetchone() == (1000, "n999")
        merged = "MERGE INTO ops.jobs USING staged ON jobs.id = staged.id WHEN MATCHED THEN UPDATE SET name = staged.name"
        assert connection.execute(merged).rowcount == 1
        with connection.cursor() as cursor:
            cursor.executemany("UPDATE staged SET name = %s WHERE id = %s", [("a", 1), ("b", 2)])
        assert connection.execute("SELECT name FROM staged WHERE id < 3 ORDER BY id").fetchall() == [("n0",), ("a",), ("b",)]
        with psycopg.connect(schemas.dsn, autocommit=True) as other:
            with pytest.raises(psycopg.errors.UndefinedTable):
                other.execute("SELECT * FROM staged")
    with psycopg.connect(schemas.dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM staged")
    assert schemas.sql("SELECT name FROM ops.jobs WHERE id = 1")[0][0] == "n1"
