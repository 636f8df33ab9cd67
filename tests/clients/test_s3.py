"""The whole spine on S3: moto's server keeps the lake, with conditional puts as S3 has them."""
import pathlib
import subprocess
import sys

import pytest

from lake_readers import READERS, check_prefix
from node import RESTLESS, poll
from test_lake import PARTITIONS, read_while_writing

BUCKET = "spine-lake"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint():
    """An S3 of one's own on a free port."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    script = pathlib.Path(__file__).parents[1] / "s3" / "server.py"
    # It ends when its standard input does.
    server = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = server.stdout.readline().strip()
    assert url, "the S3 server did not start"
    client = boto3.client("s3", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="probe", Body=b"1", IfNoneMatch="*")
    with pytest.raises(client.exceptions.ClientError):  # what exactly-once commits stand on
        client.put_object(Bucket=BUCKET, Key="probe", Body=b"2", IfNoneMatch="*")
    yield url
    server.kill()
    server.wait()


def variables(endpoint, prefix):
    return {**RESTLESS, **KEYS, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true",
            "MILLSTREAM_STORE_URL": f"s3://{BUCKET}/{prefix}"}


def options(endpoint):
    return {**KEYS, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_sees_consistent_prefixes_on_s3_while_ingest_runs(start, endpoint, reader):
    node = start(**variables(endpoint, reader))
    node.sql(f"CREATE STREAM growing (id BIGINT NOT NULL, name TEXT) PARTITION BY (id) WITH (partitions = {PARTITIONS})")
    url = f"s3://{BUCKET}/{reader}/public/growing"
    written = read_while_writing(node, url, options(endpoint), reader, looks=3)
    node.wait_for_lake("growing")
    assert check_prefix(READERS[reader](url, options(endpoint)), PARTITIONS) == written
    assert node.sql("SELECT count(*), count(DISTINCT id), max(id) FROM growing") == [[written, written, written - 1]]


def test_killed_and_restarted_on_s3_every_row_is_there_once(start, endpoint, tmp_path):
    settings = variables(endpoint, "killed")
    acknowledged = 0
    for round_ in range(4):
        node = start(tmp_path, **settings)
        if round_ == 0:
            node.sql(f"CREATE STREAM growing (id BIGINT NOT NULL) PARTITION BY (id) WITH (partitions = {PARTITIONS})")
        if acknowledged:
            assert node.sql("SELECT count(*), count(DISTINCT id), max(id) FROM growing") == [[acknowledged, acknowledged, acknowledged - 1]]
        for request in range(10 + round_ * 3):
            rows = [{"id": acknowledged + n} for n in range(50)]
            node.ingest("growing", rows, idempotency_key=f"{round_}-{request}")
            acknowledged += 50
        node.kill()
    node = start(tmp_path, **settings)
    node.wait_for_lake("growing")
    url = f"s3://{BUCKET}/killed/public/growing"
    for reader in READERS.values():
        assert check_prefix(reader(url, options(endpoint)), PARTITIONS) == acknowledged
    assert node.stop() == 0


def test_files_on_s3_are_read_and_written(start, endpoint):
    node = start(**variables(endpoint, "files"))
    node.sql("CREATE TABLE made (id BIGINT, name TEXT)")
    node.sql("CREATE STREAM source (id BIGINT, name TEXT)")
    node.ingest("source", [{"id": i, "name": f"n{i}"} for i in range(500)])
    for suffix in ["parquet", "csv.gz", "ndjson", "arrow"]:
        file = f"s3://{BUCKET}/drop/{suffix}/a.{suffix}"
        node.sql(f"COPY source TO '{file}'")
        assert node.sql(f"SELECT count(*), sum(id) FROM '{file}' WHERE id >= 100") == [[400, 119800]]
        node.sql(f"COPY made FROM 's3://{BUCKET}/drop/{suffix}/*' WITH (once = true, format = {suffix.split('.')[0]})")
        node.sql(f"COPY made FROM 's3://{BUCKET}/drop/{suffix}/*' WITH (once = true, format = {suffix.split('.')[0]})")
    assert node.sql("SELECT count(*), count(DISTINCT id) FROM made") == [[2000, 500]]
    assert node.sql(f"SELECT count(*) FROM read_parquet('s3://{BUCKET}/drop/**/*.parquet')") == [[500]]
    with pytest.raises(Exception, match="undefined_file"):
        node.sql(f"SELECT * FROM read_csv('s3://{BUCKET}/drop/none.csv')")


@pytest.mark.parametrize("bucket", [BUCKET, "others"])
def test_a_table_of_others_on_s3_is_read_and_changed(start, endpoint, bucket):
    import boto3
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    url = f"s3://{bucket}/shared/orders"
    deltalake.write_deltalake(url, pyarrow.table({"id": list(range(50))}), storage_options=options(endpoint))
    node = start(**variables(endpoint, f"beside-{bucket}"))
    node.sql(f"CREATE TABLE orders LOCATION '{url}'")
    node.sql("DELETE FROM orders WHERE id % 2 = 0")
    node.sql("INSERT INTO orders VALUES (100)")
    deltalake.write_deltalake(url, pyarrow.table({"id": [200]}), mode="append", storage_options=options(endpoint))
    node.sql("UPDATE orders SET id = id + 1 WHERE id = 200")
    assert node.sql("SELECT count(*), max(id) FROM orders") == [[27, 201]]
    rows = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(url, storage_options=options(endpoint)))
    rows = pyarrow.table(rows.execute("SELECT id FROM t").read_all()).column("id").to_pylist()
    assert sorted(rows) == [*range(1, 50, 2), 100, 201]
    node.sql(f"CREATE TABLE made (id BIGINT) LOCATION 's3://{bucket}/shared/made'")
    node.sql("INSERT INTO made VALUES (1)")
    assert node.sql("SELECT count(*) FROM made") == [[1]]


def test_a_bucket_that_is_not_there_is_told_and_used_once_it_is(start, endpoint):
    import boto3
    settings = variables(endpoint, "late") | {"MILLSTREAM_STORE_URL": "s3://later/lake"}
    node = start(**settings)
    node.sql("CREATE STREAM growing (id BIGINT NOT NULL)")
    node.ingest("growing", [{"id": n} for n in range(10)])

    def told():
        rows = node.sql("SELECT last_error FROM system.jobs WHERE kind = 'tiering' AND failures_in_a_row > 0")
        return rows[0][0] if rows and rows[0][0] else None

    error = poll("the failure to be told", told)
    assert "later" in error, error
    assert node.sql("SELECT count(*) FROM growing") == [[10]]
    client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    client.create_bucket(Bucket="later")
    node.wait_for_lake("growing")
    assert check_prefix(READERS["deltalake"]("s3://later/lake/public/growing", options(endpoint)), 1) == 10
