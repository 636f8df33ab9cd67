"""Owns the measurement of statements over more rows than fit into memory: a whole node in less than 1 GiB."""
import os
import time

from measure import MIB, fresh
from measure_views import sized
from processes import Node

# The node's memory beside these: buffers of the files that are written, the index of a key, the program itself.
LIMITS = {"query_memory": "128MiB", "buffer_memory": "16MiB", "ingest_queue": "64MiB", "query_timeout": "2h",
          "maintenance_interval": "10h"}
BAR_MIB = 1024
# The allocator keeps what was freed for some milliseconds, which add up; docs/operations.md tells it to small nodes.
PURGE_DELAY = {"MIMALLOC_PURGE_DELAY": "1"}
# 96 characters that no codec makes smaller, twice: 192 in memory, half of it in files.
HALF = " || ".join(f"md5(CAST({{i}} * 7 + {n} AS TEXT))" for n in range(3))


def pad(i):
    half = HALF.format(i=i)
    return f"repeat({half}, 2)"


def larger_than_memory(options, work, report):
    """COPY, CREATE TABLE AS with ORDER BY, MERGE and INSERT ... ON CONFLICT of several times a node's memory."""
    os.environ |= PURGE_DELAY
    try:
        wide(options, work, report)
        keyed(options, work, report)
    finally:
        for name in PURGE_DELAY:
            del os.environ[name]


def wide(options, work, report):
    """Rows of some 220 bytes without a key."""
    rows, file = sized(options, 10_000_000), work / "wide.parquet"
    # Half of the source's rows meet one that is there.
    first, last = rows - rows // 4 + 1, rows + rows // 4
    with Node(options.binaries, fresh(work), files_root=work, **LIMITS) as node:
        timed = timer(node, report, f"{rows:,} rows of 220 bytes")
        node.sql(f"COPY (SELECT i AS id, 1 AS n, {pad('i')} AS pad FROM {shuffled(1, rows)}) TO '{file}'")
        node.sql("CREATE TABLE t (id BIGINT, n BIGINT, pad TEXT)")
        timed("COPY", f"COPY t FROM '{file}'")
        os.remove(file)
        check(node, "t", rows, total(1, rows), rows)
        timed("CREATE TABLE AS ... ORDER BY", "CREATE TABLE sorted AS SELECT * FROM t ORDER BY pad, id")
        check(node, "sorted", rows, total(1, rows), rows)
        node.sql("DROP TABLE sorted")
        node.sql(f"CREATE TABLE s AS SELECT i AS id, 1 AS n, {pad('i')} AS pad FROM {shuffled(first, last)}")
        timed(f"MERGE of {last - first + 1:,} rows", "MERGE INTO t USING s ON t.id = s.id "
              "WHEN MATCHED AND s.id % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET n = t.n + s.n, pad = s.pad "
              "WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.n, s.pad)")
        deleted = range(first + first % 2, rows + 1, 2)
        left = last - len(deleted)
        after = (left, total(1, last) - sum(deleted), left + (rows - first + 1) - len(deleted))
        check(node, "t", *after)
        node.sql("FLUSH")
        check(node, "t", *after)
        told(report, "COPY, ORDER BY and MERGE of wide rows", node)


def keyed(options, work, report):
    """Many rows with a key, whose index is in memory."""
    rows, changed = sized(options, 10_000_000), sized(options, 100_000)
    with Node(options.binaries, fresh(work), files_root=work, **LIMITS) as node:
        timed = timer(node, report, f"into {rows:,} keys")
        node.sql("CREATE TABLE k (id BIGINT PRIMARY KEY, n BIGINT, pad TEXT)")
        text = "md5(CAST(i AS TEXT))"
        timed("INSERT ... SELECT", f"INSERT INTO k SELECT i, 1, {text} FROM {shuffled(1, rows)}")
        first = rows - changed + changed // 10 + 1
        source = f"(SELECT i AS id, {text} AS pad FROM {shuffled(first, first + changed - 1)}) s"
        timed(f"MERGE of {changed:,} rows", f"MERGE INTO k USING {source} ON k.id = s.id "
              "WHEN MATCHED THEN UPDATE SET n = k.n + 1 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 1, s.pad)")
        came = changed // 10
        count(node, "k", rows + came, total(1, rows + came), rows + changed)
        many = sized(options, 1_000_000)
        timed(f"ON CONFLICT DO UPDATE of {many:,} rows", f"INSERT INTO k SELECT i, 1, {text} FROM {shuffled(1, many)} "
              "ON CONFLICT (id) DO UPDATE SET n = k.n + excluded.n")
        count(node, "k", rows + came, total(1, rows + came), rows + changed + many)
        node.sql("FLUSH")
        count(node, "k", rows + came, total(1, rows + came), rows + changed + many)
        told(report, "INSERT, MERGE and ON CONFLICT of keyed rows", node)


def told(report, what, node):
    report.add(f"memory of the node: {what}", node.peak_rss / MIB, "MiB", below=BAR_MIB,
               note=f"highest; query.memory is {LIMITS['query_memory']}")


def timer(node, report, note):
    """Runs statements, each a line of the report."""
    def timed(name, statement):
        began = time.perf_counter()
        node.sql(statement)
        report.add(f"larger than memory: {name}", time.perf_counter() - began, "s",
                   note=f"{note}; {node.peak_rss / MIB:,.0f} MiB so far")
    return timed


def shuffled(first, last):
    """A relation of the numbers from the first to the last as `i`, each once, neighbours far apart."""
    rows, step = last - first + 1, 7_368_787  # a prime
    return f"(SELECT {first} + (g.i * {step}) % {rows} AS i FROM generate_series(0, {rows} - 1) AS g(i)) ids"


def total(first, last):
    return (first + last) * (last - first + 1) // 2


def count(node, table, rows, ids, numbers):
    """Compares how many rows there are, and sums, with what they must be."""
    found = [int(value) for value in node.sql(f"SELECT count(*), sum(id), sum(n) FROM {table}")[0]]
    if found != [rows, ids, numbers]:
        raise RuntimeError(f"{table}: count, sum(id), sum(n) are {found} instead of {[rows, ids, numbers]}")


def check(node, table, rows, ids, numbers):
    """`count`, and that each row has the text that belongs to its id."""
    count(node, table, rows, ids, numbers)
    right = int(node.sql(f"SELECT count(*) FROM {table} WHERE pad = {pad('id')}")[0][0])
    if right != rows:
        raise RuntimeError(f"{table}: {rows - right} of {rows} rows have another row's text")
