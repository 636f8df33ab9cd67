"""psql: the commands a person types, and what errors look like."""
import pytest

from conftest import run, tool


@pytest.fixture(scope="module")
def psql(node):
    path = tool("psql")

    def ask(*arguments, sql=None):
        command = [path, "-X", "-v", "ON_ERROR_STOP=1", "-h", node.pg_host, "-p", node.pg_port, "-U", "someone", "-d", "any"]
        return run(*command, *arguments, *(["-c", sql] if sql else []))

    return ask


def lines(psql, sql, *arguments):
    status, out, err = psql("-At", *arguments, sql=sql)
    assert status == 0, err
    return out.splitlines()


def test_a_query_prints_its_rows(psql):
    assert lines(psql, "SELECT id, carrier, delay, cancelled FROM flights ORDER BY id") == [
        "1|UA|2.5|f", "2|AA|-1|f", "3|||t", "4|O'Hare \"x\", é|0.125|",
    ]


def test_an_aggregate_and_a_timestamp_print_as_postgresql_prints_them(psql):
    assert lines(psql, "SELECT count(*), max(departed) FROM flights") == ["4|2013-06-30 23:59:59.999999+00"]


def test_a_table_goes_back_to_a_version(psql):
    for sql in ("CREATE TABLE back (id BIGINT PRIMARY KEY, s TEXT)", "INSERT INTO back VALUES (1, 'a')", "FLUSH",
                "INSERT INTO back VALUES (2, 'b')", "FLUSH", "RESTORE TABLE back TO VERSION AS OF 1"):
        lines(psql, sql)
    assert lines(psql, "SELECT * FROM back") == ["1|a"]
    lines(psql, "DROP TABLE back")


def test_queries_within_queries_do_not_end_the_node(psql):
    for depth in (1, 2, 4, 8, 16, 32, 64, 128):
        within = "SELECT 1 AS one"
        for _ in range(depth):
            within = f"SELECT 1 AS one FROM flights WHERE EXISTS ({within})"
        status, out, err = psql("-At", sql=within)
        assert status == 0 and len(out.splitlines()) == 4 or "ERROR" in err, (depth, err)
    assert lines(psql, "SELECT count(*) FROM flights") == ["4"]


def test_long_chains_of_operators_do_not_end_the_node(psql):
    chains = (
        lambda n: "SELECT count(*) FROM flights WHERE " + " OR ".join(f"carrier = 'x{i}'" for i in range(n)),
        lambda n: "SELECT " + "+".join(["1"] * n) + " FROM flights",
        lambda n: "SELECT " + "||".join(["carrier"] * n) + " FROM flights",
        lambda n: "SELECT 1" + "::int::bigint" * (n // 2),
        lambda n: "CREATE TEMP TABLE unions AS " + " UNION ALL ".join(["SELECT carrier FROM flights"] * (n // 4)),
        lambda n: "SELECT * FROM " + "(SELECT * FROM " * (n // 12) + "flights" + ") AS q" * (n // 12),
        lambda n: "CREATE TEMP TABLE listed AS SELECT x FROM (SELECT unnest(ARRAY[1, 2]) AS x) AS q",
    )
    for chain in chains:
        status, out, err = psql("-At", sql=chain(480))
        assert status == 0 or "nests deeper" in err, err
        psql("-At", sql=chain(5_000))
        assert lines(psql, "SELECT count(*) FROM flights") == ["4"]
    status, out, err = psql("-At", sql=chains[1](20_000))
    assert "operators one behind the other" in err and "HINT" in err, err[-300:]


def test_d_lists_the_streams(psql):
    for command in (r"\d", r"\dt"):
        status, out, err = psql(sql=command)
        assert status == 0 or "nests deeper" in err, err
        assert "flights" in out and "public" in out, out


def test_d_name_describes_a_stream(psql):
    status, out, err = psql(sql=r"\d flights")
    assert status == 0, err
    for column, kind in [("id", "bigint"), ("carrier", "text"), ("delay", "double precision"),
                         ("departed", "timestamp with time zone"), ("cancelled", "boolean")]:
        line = next((l for l in out.splitlines() if l.strip().startswith(column)), "")
        assert kind in line, f"{column}: {out}"
    assert "not null" in next(l for l in out.splitlines() if l.strip().startswith("id"))


def test_other_backslash_commands_answer(psql):
    for command in (r"\l", r"\dn", r"\du", r"\conninfo", r"\df", r"\dv", r"\di"):
        status, _, err = psql(sql=command)
        assert status == 0, f"{command}: {err}"


@pytest.mark.parametrize("sql, sqlstate", [
    ("SELECT * FROM nowhere", "42P01"),
    ("SELECT missing FROM flights", "42703"),
    ("SELECT 1 +", "42601"),
    ("SELECT 1/0", "22012"),
    ("SELECT nofunction(1)", "42883"),
    ("SELECT CAST('x' AS INT)", "22P02"),
    ("CREATE STREAM flights (id INT)", "42P07"),
    ("DROP STREAM nowhere", "42P01"),
])
def test_an_error_has_its_sqlstate(psql, sql, sqlstate):
    status, _, err = psql("-v", "VERBOSITY=verbose", sql=sql)
    assert status == 1, err
    assert f"ERROR:  {sqlstate}:" in err, err


def test_several_statements_run_in_turn_and_stop_at_the_first_error(psql):
    status, out, err = psql("-At", sql="SELECT 1; SELECT 2; SELECT * FROM nowhere; SELECT 3")
    assert status == 1 and "nowhere" in err
    assert "3" not in out.splitlines()


def test_ddl_has_its_command_tag(psql):
    for sql, tag in [("CREATE STREAM tagged (id INT)", "CREATE STREAM"), ("DROP STREAM tagged", "DROP STREAM")]:
        status, out, err = psql(sql=sql)
        assert (status, out.strip()) == (0, tag), err
    status, out, err = psql(sql="DROP STREAM IF EXISTS tagged")
    assert status == 0 and "NOTICE" in err, err


def test_transactions_and_settings_that_tools_send_are_taken(psql):
    for sql in ("BEGIN", "COMMIT", "ROLLBACK", "SET application_name = 'x'", "SET client_encoding TO 'UTF8'",
                "SHOW server_version", "SELECT version()", "SELECT current_database(), current_schema(), current_user"):
        status, _, err = psql(sql=sql)
        assert status == 0, f"{sql}: {err}"


def test_a_cursor_fetches_in_parts(psql):
    status, out, err = psql("-At", "-v", "FETCH_COUNT=2", sql="SELECT id FROM flights ORDER BY id")
    assert (status, out.split()) == (0, ["1", "2", "3", "4"]), err
