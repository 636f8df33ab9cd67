#!/usr/bin/env python3
"""DuckDB, delta-rs and the TPC-H generator beside Millstream's tables; runs inside the environment that `lake.py` makes.

Each line of standard input is one command, JSON with its name under `do`; each gives one line of JSON.
"""
import json
import pathlib
import shutil
import sys
import time

import duckdb
import numpy
import pyarrow
import pyarrow.parquet as parquet
from deltalake import DeltaTable, write_deltalake

URLS, EVENTS = 5000, ["view", "click", "add_to_cart", "purchase"]
START_US = 1_767_225_600_000_000
ROW_GROUP = 1 << 20
connection = duckdb.connect()


def views(folder, threads, memory=None):
    """Every Parquet file of a folder as a view, under the file's name."""
    connection.execute(f"SET threads = {int(threads)}")
    if memory:
        connection.execute(f"SET memory_limit = '{memory}'")
    for file in sorted(pathlib.Path(folder).glob("*.parquet")):
        connection.execute(f"CREATE OR REPLACE VIEW {file.stem} AS SELECT * FROM read_parquet('{file}')")
    return {"version": duckdb.__version__}


def query(sql, rows=False):
    """Milliseconds from the question to the whole answer in columns; the rows as text if they are wanted."""
    began = time.perf_counter()
    answer = connection.sql(sql).to_arrow_table()
    took = (time.perf_counter() - began) * 1000
    shown = lambda value: None if value is None else str(value)
    lines = [[shown(value) for value in row.values()] for row in answer.to_pylist()] if rows else None
    return {"ms": took, "rows": lines}


def column(values, rows, random):
    return pyarrow.array(values).take(pyarrow.array(random.integers(0, len(values), rows, dtype=numpy.int32)))


def events(path, first, rows, seed):
    """A file of shop events whose keys count from `first`."""
    random = numpy.random.default_rng(seed)
    urls = [f"https://shop.example/products/{i}" for i in range(URLS)]
    with parquet.ParquetWriter(path, schema()) as file:
        for start in range(0, rows, ROW_GROUP):
            n = min(ROW_GROUP, rows - start)
            keys = numpy.arange(first + start, first + start + n, dtype=numpy.int64)
            columns = [pyarrow.array(keys), pyarrow.array(random.integers(0, 1_000_000, n, dtype=numpy.int64)),
                       column(EVENTS, n, random), column(urls, n, random),
                       pyarrow.array(numpy.round(random.random(n) * 500, 2)),
                       pyarrow.array(START_US + keys * 1000, pyarrow.timestamp("us", "UTC"))]
            file.write_table(pyarrow.table(columns, schema=schema()))
    return {"rows": rows}


def schema():
    return pyarrow.schema([("id", pyarrow.int64()), ("user_id", pyarrow.int64()), ("event", pyarrow.string()),
                           ("url", pyarrow.string()), ("price", pyarrow.float64()),
                           ("ts", pyarrow.timestamp("us", "UTC"))])


def changes(path, rows, changed, seed):
    """Rows under keys below `rows`, spread evenly, one in ten of them a new key behind those."""
    events(path, 0, changed, seed)
    table = parquet.read_table(path)
    keys = numpy.arange(changed, dtype=numpy.int64) * (rows // changed)
    keys[::10] = rows + numpy.arange(len(keys[::10]))
    parquet.write_table(table.set_column(0, "id", pyarrow.array(keys)), path)
    return {"rows": changed}


def hits(path, rows, seed):
    """A table in the shape of ClickBench's: skewed keys, most phrases empty, long addresses, a month in order of time."""
    random = numpy.random.default_rng(seed)
    words = ["google", "news", "maps", "video", "shop", "mail", "auto", "forum", "music", "photo"]
    urls = pyarrow.array([f"http://{words[i % 10] if i % 97 == 0 else 'site'}{i % 5000}.example/path/{i}/page?id={i * 31}"
                          for i in range(max(10, rows // 7))])
    phrases = pyarrow.array([""] + [f"{words[i % 10]} query number {i}" for i in range(1, max(10, rows // 17))])
    skewed = lambda n: (n * random.random(rows) ** 4).astype(numpy.int64)
    integers = lambda values: pyarrow.array(values.astype(numpy.int32))
    phrase = skewed(len(phrases))
    phrase[random.random(rows) < 0.87] = 0
    seconds = numpy.sort(random.integers(0, 31 * 86_400, rows))
    table = pyarrow.table({
        "watch_id": random.integers(0, 1 << 62, rows),
        "user_id": (skewed(max(10, rows // 6)) * 2654435761 * 40503) % (1 << 62),
        "ip": integers(random.integers(0, 1 << 31, rows)), "counter": integers(skewed(6500)),
        "region": integers(skewed(9000)), "advertiser": integers(2 * (random.random(rows) < 0.006)),
        "width": integers(random.choice(numpy.array([1024, 1280, 1366, 1600, 1920]), rows)),
        "refresh": integers(random.random(rows) < 0.12),
        "phrase": phrases.take(pyarrow.array(phrase)), "url": urls.take(pyarrow.array(skewed(len(urls)))),
        "event_time": pyarrow.array(1_372_636_800_000_000 + seconds * 1_000_000, pyarrow.timestamp("us")),
        "event_date": pyarrow.array((15887 + seconds // 86_400).astype(numpy.int32), pyarrow.date32()),
    })
    parquet.write_table(table, path, row_group_size=ROW_GROUP)
    return {"rows": rows}


def write(source, target, in_memory=False):
    """delta-rs writes the rows of a Parquet file as a new table; reading the file counts unless it is in memory."""
    shutil.rmtree(target, ignore_errors=True)
    file = parquet.ParquetFile(source)
    rows = parquet.read_table(source) if in_memory else None
    began = time.perf_counter()
    if rows is None:
        rows = pyarrow.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(1 << 16))
    write_deltalake(target, rows)
    return {"s": time.perf_counter() - began, "rows": file.metadata.num_rows}


def merge(target, source):
    """delta-rs updates the rows whose keys are there, and adds the others."""
    began = time.perf_counter()
    found = (DeltaTable(target).merge(parquet.read_table(source), "t.id = s.id", source_alias="s", target_alias="t")
             .when_matched_update_all().when_not_matched_insert_all().execute())
    return {"s": time.perf_counter() - began, "updated": found["num_target_rows_updated"],
            "inserted": found["num_target_rows_inserted"]}


COMMANDS = {f.__name__: f for f in (views, query, events, changes, hits, write, merge)}

if __name__ == "__main__":
    print("{}", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = COMMANDS[command.pop("do")](**command)
        except Exception as error:  # the other side tells it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
