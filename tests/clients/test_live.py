"""What goes on without end: EMIT CHANGES as psql and psycopg read it, server-sent events as curl does."""
import http.client
import json
import subprocess
import threading

import pytest

from conftest import tool
from node import PATIENCE_S, poll

LIVE = "SELECT word, count(*) AS n FROM {} GROUP BY word EMIT CHANGES"


@pytest.fixture
def words(node, request):
    """A stream of the test's own with two rows."""
    name = request.node.name.replace("test_", "")[:40]
    node.sql(f"CREATE STREAM {name} (id BIGINT, word TEXT)")
    node.ingest(name, [{"id": 1, "word": "a"}, {"id": 2, "word": "b"}])
    return name


def no_live_query(node):
    running = "SELECT count(*) FROM system.queries WHERE status = 'running' AND sql LIKE '%EMIT CHANGES'"
    poll("the live query to end", lambda: True if node.sql(running) == [[0]] else None, seconds=5)


class Events:
    """Reads server-sent events."""

    def __init__(self, node, path, last=None):
        self.connection = http.client.HTTPConnection(node.http, timeout=PATIENCE_S)
        self.connection.request("GET", path, headers={"Last-Event-ID": last} if last else {})
        self.reply = self.connection.getresponse()
        assert self.reply.status == 200, self.reply.read()

    def next(self):
        event = {}
        for line in iter(self.reply.readline, b""):
            line = line.decode().rstrip("\n")
            if not line and "data" in event:
                return event["event"], event.get("id"), json.loads(event["data"])
            name, _, value = line.partition(": ")
            if name:
                event[name] = value
        raise AssertionError("the events ended")

    def close(self):
        self.reply.close()
        self.connection.close()


def test_psycopg_streams_changes(node, words):
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        rows = connection.cursor().stream(LIVE.format(words))
        assert sorted([next(rows), next(rows)]) == [("insert", "a", 1), ("insert", "b", 1)]
        node.ingest(words, [{"id": 3, "word": "a"}])
        assert [next(rows), next(rows)] == [("delete", "a", 1), ("insert", "a", 2)]
        threading.Timer(0.2, connection.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            next(rows)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    no_live_query(node)


def test_a_killed_psql_ends_its_query(node, words):
    command = [tool("psql"), "-X", "-h", node.pg_host, "-p", node.pg_port, "-U", "someone", "-d", "any", "-c", LIVE.format(words)]
    running = f"SELECT count(*) FROM system.queries WHERE status = 'running' AND sql LIKE '%{words} GROUP%CHANGES'"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as psql:
        poll("the live query to run", lambda: True if node.sql(running) == [[1]] else None)
        psql.kill()
    no_live_query(node)


def test_a_view_is_followed_and_resumed(node, words):
    node.sql(f"CREATE MATERIALIZED VIEW {words}_view AS SELECT word, count(*) AS n FROM {words} GROUP BY word")
    path = f"/v1/views/{words}_view/changes"
    events = Events(node, path)
    first = [events.next() for _ in range(3)]
    assert [name for name, _, _ in first] == ["insert", "insert", "ready"]
    node.ingest(words, [{"id": 3, "word": "a"}])
    gone, come = events.next(), events.next()
    events.close()
    assert (gone[0], gone[2]) == ("delete", {"word": "a", "n": 1})
    assert (come[0], come[2]) == ("insert", {"word": "a", "n": 2})
    again = Events(node, path, gone[1])
    assert again.next() == come
    again.close()


def test_a_stream_is_followed_by_curl(node, words):
    command = [tool("curl"), "-sN", f"http://{node.http}/v1/streams/{words}/tail?from=earliest"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        rows = []
        for line in curl.stdout:
            if line.startswith("data: "):
                rows.append(json.loads(line.removeprefix("data: "))["id"])
            if len(rows) == 2:
                break
        curl.kill()
    assert rows == [1, 2]
