"""Owns how others read a stream's table: each reader gives (partition, offset, id) of every row."""
import pathlib

import pytest


def by_deltalake(url, options):
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = deltalake.DeltaTable(str(url), storage_options=options)
    try:
        data = table.to_pyarrow_table(columns=["_partition", "_offset", "id"])
    except ImportError:
        data = pyarrow.table(deltalake.QueryBuilder().register("t", table).execute("SELECT _partition, _offset, id FROM t").read_all())
    return list(zip(*(data.column(name).to_pylist() for name in ("_partition", "_offset", "id"))))


def by_polars(url, options):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    pytest.importorskip("deltalake", reason="deltalake is not installed")
    return polars.scan_delta(str(url), storage_options=options).select("_partition", "_offset", "id").collect().rows()


def by_duckdb(url, options):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    connection = duckdb.connect()
    for name in ("httpfs", "delta"):  # as packages bring them: nothing is fetched while the tests run
        package = pytest.importorskip(f"duckdb_extension_{name}", reason=f"duckdb-extension-{name} is not installed")
        file = next(pathlib.Path(package.__file__).parent.rglob("*.duckdb_extension"))
        connection.execute(f"LOAD '{file}'")
    if options:
        scheme, _, endpoint = options["AWS_ENDPOINT_URL"].partition("://")
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{options['AWS_ACCESS_KEY_ID']}', SECRET '{options['AWS_SECRET_ACCESS_KEY']}', "
            f"REGION '{options['AWS_REGION']}', ENDPOINT '{endpoint}', USE_SSL {scheme == 'https'}, URL_STYLE 'path')"
        )
    return connection.execute(f"SELECT _partition, _offset, id FROM delta_scan('{url}')").fetchall()


READERS = {"deltalake": by_deltalake, "polars": by_polars, "duckdb": by_duckdb}


def check_prefix(rows, partitions):
    """Every partition's offsets run from 0 without gap or double, and ids rise with them; how many rows."""
    for partition in range(partitions):
        mine = sorted((offset, id_) for p, offset, id_ in rows if p == partition)
        assert [offset for offset, _ in mine] == list(range(len(mine))), f"partition {partition} has a gap or a double"
        assert all(a[1] < b[1] for a, b in zip(mine, mine[1:])), f"partition {partition} is out of order"
    return len(rows)
