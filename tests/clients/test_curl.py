"""curl: every format that a client may ask for, errors as problem details, ingest from the shell."""
import csv
import io
import json

import pytest

from conftest import run, tool

SQL = "SELECT id, carrier, delay, departed, cancelled FROM flights ORDER BY id"


@pytest.fixture(scope="module")
def curl(node):
    path = tool("curl")

    def ask(where, *arguments):
        status, out, err = run(path, "-sS", "-i", f"http://{node.http}{where}", *arguments)
        assert status == 0, err
        head, _, body = out.partition("\n\n")
        names = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
        return int(head.split()[1]), {k.lower(): v for k, v in names.items()}, body

    return ask


def sql(curl, accept, statement=SQL):
    return curl("/v1/sql", "-H", f"accept: {accept}", "-H", "content-type: application/json",
                "-d", json.dumps({"sql": statement}))


def test_json(curl):
    status, headers, body = sql(curl, "application/json")
    answer = json.loads(body)
    assert status == 200 and headers["content-type"].startswith("application/json")
    assert [c["name"] for c in answer["columns"]] == ["id", "carrier", "delay", "departed", "cancelled"]
    assert [row[0] for row in answer["rows"]] == [1, 2, 3, 4]
    assert answer["rows"][2] == [3, None, None, None, True]


def test_ndjson(curl):
    _, headers, body = sql(curl, "application/x-ndjson")
    rows = [json.loads(line) for line in body.splitlines()]
    assert headers["content-type"].startswith("application/x-ndjson")
    assert len(rows) == 4 and rows[3]["carrier"] == "O'Hare \"x\", é"


def test_csv(curl):
    _, headers, body = sql(curl, "text/csv")
    rows = list(csv.reader(io.StringIO(body)))
    assert headers["content-type"].startswith("text/csv")
    assert rows[0] == ["id", "carrier", "delay", "departed", "cancelled"]
    assert rows[4][1] == "O'Hare \"x\", é" and len(rows) == 5


def test_curls_own_accept_is_answered_with_json(curl):
    status, _, body = sql(curl, "*/*")
    assert status == 200 and json.loads(body)["rows"]


@pytest.mark.parametrize("mime, read", [("application/vnd.apache.arrow.stream", "arrow"), ("application/vnd.apache.parquet", "parquet")])
def test_arrow_and_parquet_are_read_by_pyarrow(node, tmp_path, mime, read):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet
    file = tmp_path / "answer"
    done = run(tool("curl"), "-sSf", f"http://{node.http}/v1/sql", "-o", str(file), "-H", f"accept: {mime}",
               "-H", "content-type: application/json", "-d", json.dumps({"sql": SQL}))
    assert done[0] == 0, done[2]
    if read == "arrow":
        with pyarrow.ipc.open_stream(file) as stream:
            table = stream.read_all()
    else:
        table = pyarrow.parquet.read_table(file)
    assert table.column("id").to_pylist() == [1, 2, 3, 4]
    assert table.column("carrier").to_pylist()[:3] == ["UA", "AA", None]
    assert pyarrow.types.is_timestamp(table.schema.field("departed").type)


def test_an_error_is_a_problem_detail(curl):
    status, headers, body = sql(curl, "text/csv", "SELECT * FROM nowhere")
    problem = json.loads(body)
    assert status == 404 and headers["content-type"].startswith("application/problem+json")
    assert problem["code"] == "undefined_object" and problem["status"] == 404
    assert "nowhere" in problem["detail"]


def test_a_file_is_sent_from_the_shell(node, curl, tmp_path):
    node.sql("CREATE STREAM shell (id BIGINT)")
    file = tmp_path / "rows.ndjson"
    file.write_text("".join(f'{{"id":{n}}}\n' for n in range(10000)))
    status, _, body = curl("/v1/streams/shell", "-H", "content-type: application/x-ndjson", "--data-binary", f"@{file}")
    assert status == 200 and json.loads(body)["accepted"] == 10000, body
    assert node.sql("SELECT count(*), sum(id) FROM shell") == [[10000, 49995000]]


def test_health_and_metrics(curl):
    assert curl("/healthz")[0] == 200
    assert curl("/readyz")[0] == 200
    status, headers, body = curl("/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain") and "millstream_" in body
