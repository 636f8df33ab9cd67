"""Spark with Delta reads what Millstream writes: streams, tables that changed, and cold files by their URLs."""
import decimal
import pathlib
import sys

import pytest

from conftest import tool

JARS = pathlib.Path(sys.prefix) / "spark-jars"


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """A session on this machine, with the jars that scripts/test-env.sh fetched."""
    tool("java")
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    jars = sorted(str(jar) for jar in JARS.glob("jars/*.jar"))
    if not jars:
        pytest.skip(f"Delta's jars are not in {JARS}; scripts/test-env.sh fetches them")
    folder = tmp_path_factory.mktemp("spark")
    session = (
        sql.SparkSession.builder.master("local[2]")
        .config("spark.jars", ",".join(jars))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.warehouse.dir", str(folder))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    yield session
    session.stop()


def test_spark_reads_a_table_that_changed_and_its_versions(start, spark):
    node = start()
    node.sql("CREATE TABLE orders (id BIGINT PRIMARY KEY, day DATE, name TEXT, price DECIMAL(9,2), at TIMESTAMP, tz TIMESTAMPTZ) "
             "PARTITIONED BY (day)")
    node.sql("INSERT INTO orders SELECT i, CAST('2026-01-0' || (1 + i % 3) AS DATE), 'n' || i, i * 1.25, "
             "TIMESTAMP '2026-01-01 10:00:00', TIMESTAMP '2026-01-01 10:00:00' FROM generate_series(0, 299) AS g(i)")
    node.sql("FLUSH orders")
    node.sql("UPDATE orders SET name = 'changed' WHERE id % 10 = 0")
    node.sql("DELETE FROM orders WHERE id >= 250")
    node.sql("FLUSH orders")
    frame = spark.read.format("delta").load(str(node.lake / "orders"))
    rows = {row["id"]: row for row in frame.collect()}
    assert sorted(rows) == list(range(250))
    assert [rows[i]["name"] for i in (0, 1, 10)] == ["changed", "n1", "changed"]
    assert rows[7]["price"] == decimal.Decimal("8.75") and str(rows[7]["day"]) == "2026-01-02"
    assert frame.where("day = '2026-01-01'").count() == node.sql("SELECT count(*) FROM orders WHERE day = DATE '2026-01-01'")[0][0]
    older = spark.read.format("delta").option("versionAsOf", 1).load(str(node.lake / "orders"))
    assert older.count() == 300


def test_spark_reads_a_stream_with_a_checkpoint(start, spark):
    node = start()
    node.sql("CREATE STREAM clicks (id BIGINT, tags TEXT[], geo ROW(lat DOUBLE PRECISION, lon DOUBLE PRECISION)) WITH (checkpoint_interval = 2)")
    for i in range(6):
        node.ingest("clicks", [{"id": i, "tags": ["a", str(i)], "geo": {"lat": 1.5, "lon": i}}])
        node.sql("FLUSH STREAM clicks")
    node.sql("OPTIMIZE clicks")
    rows = spark.read.format("delta").load(str(node.lake / "clicks")).orderBy("id").collect()
    assert [(row["id"], row["_offset"], row["tags"], row["geo"]["lon"]) for row in rows] == [
        (i, i, ["a", str(i)], float(i)) for i in range(6)
    ]


def test_spark_follows_the_urls_of_cold_files(start, spark, tmp_path):
    node = start(tmp_path, MILLSTREAM_FILES_ROOT=str(tmp_path))
    node.sql("CREATE TABLE aged (id BIGINT)")
    node.sql("INSERT INTO aged SELECT i FROM generate_series(0, 99) AS g(i)")
    node.sql("FLUSH aged")
    node.sql(f"ALTER TABLE aged SET (warm = '1 ms', cold = 'file://{tmp_path}/cold')")
    assert node.sql("OPTIMIZE aged TEMPERATURE")[0][1] == "1"
    node.sql("ALTER TABLE aged SET (warm = '1 day')")
    node.sql("INSERT INTO aged SELECT i FROM generate_series(100, 149) AS g(i)")
    node.sql("FLUSH aged")
    rows = spark.read.format("delta").load(str(node.lake / "aged")).collect()
    assert sorted(row["id"] for row in rows) == list(range(150))
