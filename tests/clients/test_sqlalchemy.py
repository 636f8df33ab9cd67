"""SQLAlchemy: connecting, selecting, reflecting."""
import pytest

sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
pytest.importorskip("psycopg", reason="psycopg is not installed")


@pytest.fixture
def engine(node):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://tester@{node.pg}/millstream")
    yield engine
    engine.dispose()


def test_a_select_by_expression(engine):
    flights = sqlalchemy.table("flights", sqlalchemy.column("id"), sqlalchemy.column("carrier"), sqlalchemy.column("delay"))
    query = sqlalchemy.select(flights.c.id, flights.c.carrier).where(flights.c.delay > 0).order_by(flights.c.id).limit(5)
    with engine.connect() as connection:
        assert [tuple(row) for row in connection.execute(query)] == [(1, "UA"), (4, "O'Hare \"x\", é")]


def test_the_inspector_lists_streams(engine):
    assert "flights" in sqlalchemy.inspect(engine).get_table_names()
