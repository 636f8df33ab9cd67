"""Files that others wrote, read by the node; files that it wrote, read by others; a COPY's progress on a terminal."""
import datetime
import decimal
import http.server
import os
import pty
import re
import select
import subprocess
import threading
import uuid

import pytest

from node import PATIENCE_S, poll

UTC = datetime.timezone.utc


@pytest.fixture
def node(start, tmp_path):
    """A node whose files lie in the test's folder, and on this machine's web servers."""
    return start(MILLSTREAM_FILES_ROOT=str(tmp_path), MILLSTREAM_FILES_HTTP="loopback")


@pytest.fixture
def rows_of(node):
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        yield lambda sql: connection.execute(sql).fetchall()


SCHEMA = {
    "type": "record", "name": "event", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "on", "type": {"type": "int", "logicalType": "date"}},
        {"name": "t", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "local", "type": [{"type": "long", "logicalType": "local-timestamp-micros"}, "null"]},
        {"name": "paid", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}},
        {"name": "fee", "type": {"type": "fixed", "name": "fee", "size": 8, "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["NEW", "OLD"]}},
        {"name": "raw", "type": {"type": "fixed", "name": "raw", "size": 2}},
        {"name": "any", "type": ["null", "long", "string"]},
        {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "item", "fields": [
            {"name": "sku", "type": "string"}, {"name": "n", "type": ["null", "int"]}]}}},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
    ],
}


def event(i):
    return {
        "id": i, "name": None if i % 3 == 0 else f"n{i}", "on": datetime.date(2026, 1, 1) + datetime.timedelta(i % 300),
        "t": datetime.time(5, 6, 7, 250000), "at": datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        "local": None if i % 2 else datetime.datetime(2026, 11, 22, 1, 2, 3, 4), "paid": decimal.Decimal("-1.500"),
        "fee": decimal.Decimal("12.34"), "key": uuid.UUID(int=i), "kind": "OLD", "raw": b"\x00\xff",
        "any": [None, i, f"s{i}"][i % 3], "items": [{"sku": "a", "n": None}, {"sku": "b", "n": i}], "labels": {"k": f"v{i}"},
    }


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_avro_of_fastavro_is_read_and_loaded(node, rows_of, tmp_path, codec):
    fastavro = pytest.importorskip("fastavro", reason="fastavro is not installed")
    with open(tmp_path / "events.avro", "wb") as file:
        fastavro.writer(file, SCHEMA, (event(i) for i in range(5000)), codec=codec)
    expected = [(
        1, "n1", datetime.date(2026, 1, 2), datetime.time(5, 6, 7, 250000),
        datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), None, decimal.Decimal("-1.500"), decimal.Decimal("12.34"),
        uuid.UUID(int=1), "OLD", b"\x00\xff", 1, {"k": "v1"},
    )]
    columns = 'id, name, "on", t, at, local, paid, fee, key, kind, raw, "any", labels'
    assert rows_of(f"SELECT {columns} FROM read_avro('*.avro') WHERE id = 1") == expected
    assert rows_of("SELECT sum(items[2]['n']) FROM 'events.avro'") == [(4999 * 2500,)]
    node.sql("CREATE TABLE events FROM SAMPLE 'events.avro'")
    node.sql("COPY events FROM 'events.avro'")
    assert rows_of("SELECT count(*), count(DISTINCT key) FROM events") == [(5000, 5000)]
    assert rows_of(f"SELECT {columns} FROM events WHERE id = 1") == expected
    assert rows_of('SELECT count(*) FROM events WHERE "any" IS NULL') == [(1667,)]


@pytest.mark.parametrize("packing", ["snappy", "deflate", "uncompressed"])
def test_avro_of_polars_is_read(rows_of, tmp_path, packing):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    polars.DataFrame({"id": range(20_000), "name": [f"n{i}" for i in range(20_000)]}).write_avro(tmp_path / "p.avro", packing)
    assert rows_of("SELECT count(*), sum(id), max(name) FROM 'p.avro'") == [(20_000, 199_990_000, "n9999")]


def test_avro_of_the_node_is_read_by_others(node, tmp_path):
    fastavro = pytest.importorskip("fastavro", reason="fastavro is not installed")
    polars = pytest.importorskip("polars", reason="polars is not installed")
    query = (
        "SELECT value AS id, CASE WHEN value % 2 = 0 THEN concat('n', value) END AS name, DATE '2026-01-02' AS day, "
        "TIMESTAMPTZ '2026-01-02 03:04:05Z' AS at, CAST(1.5 AS DECIMAL(9,2)) AS paid, ARRAY[value, value + 1] AS pair, key "
        "FROM generate_series(1, 10000) CROSS JOIN keys ORDER BY id"
    )
    node.sql("CREATE TABLE keys (key UUID)")
    node.sql("INSERT INTO keys VALUES ('0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b')")
    for packing in ["deflate", "none", "snappy", "zstd"]:
        node.sql(f"COPY ({query}) TO '{packing}.avro' (COMPRESSION {packing})")
    for packing in ["deflate", "none"]:
        with open(tmp_path / f"{packing}.avro", "rb") as file:
            rows = list(fastavro.reader(file))
        assert len(rows) == 10_000
        assert rows[1] == {
            "id": 2, "name": "n2", "day": datetime.date(2026, 1, 2), "paid": decimal.Decimal("1.50"), "pair": [2, 3],
            "at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "key": uuid.UUID("0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b"),
        }
    node.sql("COPY (SELECT value AS id, concat('n', value) AS name FROM generate_series(1, 10000)) TO 's.avro' (COMPRESSION snappy)")
    assert polars.read_avro(tmp_path / "s.avro").select(polars.len(), polars.col("id").sum()).row(0) == (10_000, 50_005_000)


class Slow(http.server.BaseHTTPRequestHandler):
    """A file whose second half is given when the test says so."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        half = len(self.server.content) // 2
        self.wfile.write(self.server.content[:half])
        self.wfile.flush()
        assert self.server.go_on.wait(PATIENCE_S)
        self.wfile.write(self.server.content[half:])

    def log_message(self, *_):
        pass


@pytest.fixture
def slow():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.go_on = threading.Event()
    server.content = "".join(f"{i},name {i}\n" for i in range(400_000)).encode()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.go_on.set()
    server.shutdown()


def test_a_copy_draws_its_progress_on_a_terminal(node, binary, slow):
    node.sql("CREATE TABLE slow (id BIGINT, name TEXT)")
    url = f"http://127.0.0.1:{slow.server_address[1]}/slow.csv"
    command = [str(binary), "sql", "--url", f"http://{node.http}", "-c", f"COPY slow FROM '{url}'"]
    terminal, end = pty.openpty()
    shell = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env={**os.environ, "TERM": "xterm"})
    os.close(end)
    seen = b""

    def drawn(pattern):
        nonlocal seen
        while not re.search(pattern, seen):
            ready, _, _ = select.select([terminal], [], [], PATIENCE_S)
            assert ready, f"waited in vain for {pattern} in {seen!r}"
            seen += os.read(terminal, 65536)

    drawn(rb"[1-9][0-9,]* rows")
    jobs = node.sql("SELECT object, rows, bytes, total_bytes, files, total_files FROM system.jobs WHERE kind = 'copy'")
    assert len(jobs) == 1 and jobs[0][0].startswith(f"slow from {url}")
    rows, read, total, files, of_files = map(int, jobs[0][1:])
    assert 0 < rows < 400_000 and 0 < read < total == len(slow.content) and (files, of_files) == (0, 1)
    slow.go_on.set()
    drawn(rb"COPY 400000")
    assert shell.wait(PATIENCE_S) == 0
    os.close(terminal)
    assert node.sql("SELECT object FROM system.jobs WHERE kind = 'copy'") == []


def test_a_copy_prints_nothing_but_its_answer_without_a_terminal(node, binary, slow):
    node.sql("CREATE TABLE slow (id BIGINT, name TEXT)")
    url = f"http://127.0.0.1:{slow.server_address[1]}/slow.csv"
    command = [str(binary), "sql", "--url", f"http://{node.http}", "-c", f"COPY slow FROM '{url}'"]
    shell = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running = "SELECT count(*) FROM system.jobs WHERE kind = 'copy' AND rows > 0"
    poll("the COPY to read rows", lambda: True if int(node.sql(running)[0][0]) else None)
    slow.go_on.set()
    assert shell.communicate(timeout=PATIENCE_S) == ("COPY 400000\n", "")
