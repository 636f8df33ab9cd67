"""Owns the measurements of tables: TPC-H, ClickBench's shape, COPY, INSERT, MERGE and upserts."""
import http.client
import json
import math
import shutil
import statistics
import time

import lake
from lake import PUBLISHED_SLACK, THREADS, Peer, difference, tpch_answer, tpch_data, tpch_queries, tpch_tables
from measure import MIB, free_port, fresh
from measure_views import ratios, sized
from peers import Postgres, Unavailable
from processes import Node, active_files, pgbench

EVENTS = ("CREATE TABLE {} (id BIGINT {}, user_id BIGINT NOT NULL, event TEXT NOT NULL, url TEXT NOT NULL, "
          "price DOUBLE NOT NULL, ts TIMESTAMPTZ NOT NULL)")
CONNECTIONS = 16
# Rows of one INSERT ... ON CONFLICT.
UPSERTED = 100


def tpch(options, work, report):
    """The 22 queries at scale 1 on Millstream's own tables and in DuckDB on the generator's files, in turn."""
    scale = 0.01 if options.quick else 1
    with Peer() as peer:
        tpch_at(options, work, report, peer, scale, options.rounds * 2 - 1)
        if options.full and not options.quick:
            tpch_at(options, work, report, peer, 10, 1, query_memory="2500MiB", query_timeout="30min")


def tpch_at(options, work, report, peer, scale, rounds, **settings):
    files, label = tpch_data(work / "files", scale), f"TPC-H SF{scale:g}"
    version = peer.do("views", folder=files, threads=THREADS, memory="4GB" if settings else None)["version"]
    with Node(options.binaries, fresh(work), files_root=files, maintenance_interval="10h", **settings) as node:
        report.add(f"{label}: load", load(node, files, tpch_tables()), "s", note="CREATE TABLE and COPY of the eight tables")
        published = tpch_answer if scale == 1 else None
        beside_duckdb(node, peer, report, f"{label}, 22 queries", version, tpch_queries(), rounds, published, bar=1.3)
        if settings:
            report.add(f"{label}: memory of the node", node.peak_rss / MIB, "MiB", below=4096,
                       note="highest, loading included")
    shutil.rmtree(files)


def clickbench(options, work, report):
    """Queries in the shape of ClickBench's on a table of 10 M rows, and in DuckDB on the same rows in Parquet."""
    statement, queries = lake.clickbench()
    (work / "files").mkdir()
    rows = sized(options, 10_000_000)
    with Peer() as peer, Node(options.binaries, fresh(work), files_root=work / "files", maintenance_interval="10h") as node:
        peer.do("hits", path=work / "files" / "hits.parquet", rows=rows, seed=7)
        version = peer.do("views", folder=work / "files", threads=THREADS)["version"]
        report.add("ClickBench's shape: load", load(node, work / "files", {"hits": statement}), "s", note=f"{rows:,} rows")
        rounds = options.rounds * 2 - 1
        beside_duckdb(node, peer, report, f"ClickBench's shape, {len(queries)} queries", version, queries, rounds)


def beside_duckdb(node, peer, report, label, version, queries, rounds, published=None, bar=None):
    """Queries on both sides, in turn: their answers must be the same, then their times are compared."""
    ours, theirs, wrong = {}, {}, []
    for name, sql in queries.items():
        wrong += check(name, answer(node, sql), peer.do("query", sql=sql, rows=True)["rows"], published)
        ours[name], theirs[name] = [], []
        for _ in range(rounds):
            ours[name].append(answer_ms(node, sql))
            theirs[name].append(peer.do("query", sql=sql)["ms"])
    report.keep(label, {"millstream_ms": ours, "duckdb_ms": theirs})
    mine, other = ({q: statistics.median(ms) for q, ms in side.items()} for side in (ours, theirs))
    each = {q: mine[q] / other[q] for q in mine}
    report.add(f"{label}: Millstream", sum(mine.values()) / 1000, "s", note="over HTTP, rows as JSON")
    report.add(f"{label}: DuckDB {version}", sum(other.values()) / 1000, "s", note="in its process, on Parquet")
    slowest = sorted(each, key=each.get, reverse=True)[:5]
    report.add(f"{label}: Millstream / DuckDB", geometric_mean(each.values()), "×", below=bar,
               note="geometric mean; slowest " + ", ".join(f"{q}: {each[q]:.2f}" for q in slowest))
    if wrong:
        raise RuntimeError("; ".join(wrong))


def load(node, files, tables):
    """Makes tables and fills each from the file of its name; seconds."""
    began = time.perf_counter()
    for table, statement in tables.items():
        node.sql(statement)
        node.sql(f"COPY {table} FROM '{files / table}.parquet'")
    took = time.perf_counter() - began
    node.sql("FLUSH")
    return took


def check(name, found, wanted, published):
    """What is wrong with an answer, beside DuckDB's and, where there is one, the published one."""
    wrong = []
    if (differs := difference(found, wanted)) is not None:
        wrong.append(f"query {name} beside DuckDB: {differs}")
    if published and (differs := difference(found, published(name), PUBLISHED_SLACK)) is not None:
        wrong.append(f"query {name} beside the published answer: {differs}")
    return wrong


def answer(node, sql):
    """The rows of an answer as they are written."""
    reply = json.loads(request(node, sql), parse_float=str, parse_int=str)
    return reply.get("rows", [])


def answer_ms(node, sql):
    """Milliseconds until the whole answer is there, unparsed."""
    began = time.perf_counter()
    request(node, sql)
    return (time.perf_counter() - began) * 1000


def request(node, sql):
    connection = http.client.HTTPConnection(node.address, timeout=3600)
    try:
        headers = {"content-type": "application/json", "accept": "application/json"}
        connection.request("POST", "/v1/sql", json.dumps({"sql": sql}), headers)
        reply = connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{sql[:200]}: {reply.status} {text.decode(errors='replace')}")
        return text
    finally:
        connection.close()


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def copy(options, work, report):
    """COPY of a Parquet file into an empty table, beside delta-rs's write of the same file's rows."""
    rows = sized(options, 10_000_000)
    ours, theirs, memory, in_memory = [], [], [], []
    with Peer() as peer:
        peer.do("events", path=work / "events.parquet", first=0, rows=rows, seed=1)
        for _ in range(options.rounds):
            with Node(options.binaries, fresh(work), files_root=work, maintenance_interval="10h") as node:
                ours.append(rows / copy_events(node, work, ""))
                memory.append(node.peak_rss / MIB)
            for rates, in_ram in ((theirs, False), (in_memory, True)):
                done = peer.do("write", source=work / "events.parquet", target=work / "delta", in_memory=in_ram)
                rates.append(rows / done["s"])
    report.add("COPY from Parquet", ours, "rows/s", note=f"{rows:,} rows of six columns, synced to the disk")
    report.add("delta-rs write from Parquet", theirs, "rows/s", note="not synced")
    report.add("delta-rs write from memory", in_memory, "rows/s", note="not synced")
    report.add("COPY / delta-rs", ratios(ours, theirs), "×", at_least=1)
    report.add("memory under COPY", max(memory), "MiB", note="highest of all rounds")


def copy_events(node, work, key):
    """Seconds of a COPY of the events into a new table."""
    node.sql(EVENTS.format("events", key))
    began = time.perf_counter()
    node.sql(f"COPY events FROM '{work / 'events.parquet'}'")
    return time.perf_counter() - began


def merge(options, work, report):
    """MERGE of 100,000 changed rows into 10 M, beside delta-rs's merge."""
    rows, changed = sized(options, 10_000_000), sized(options, 100_000)
    ours, theirs, memory = [], [], []
    with Peer() as peer:
        peer.do("events", path=work / "events.parquet", first=0, rows=rows, seed=1)
        peer.do("changes", path=work / "changes.parquet", rows=rows, changed=changed, seed=2)
        for _ in range(options.rounds):
            with Node(options.binaries, fresh(work), files_root=work, maintenance_interval="10h") as node:
                copy_events(node, work, "PRIMARY KEY")
                ours.append(merge_changes(node, work))
                check_table(node, "events", rows + (changed + 9) // 10)
                memory.append(node.peak_rss / MIB)
            peer.do("write", source=work / "events.parquet", target=work / "delta")
            theirs.append(peer.do("merge", target=work / "delta", source=work / "changes.parquet")["s"])
    report.add("MERGE", ours, "s", note=f"{changed:,} rows into {rows:,}, of them nine in ten there already")
    report.add("delta-rs merge", theirs, "s")
    report.add("MERGE / delta-rs", ratios(ours, theirs), "×", below=1.5)
    report.add("memory under MERGE", max(memory), "MiB", note="highest of all rounds, COPY included")


def merge_changes(node, work):
    """Seconds of the MERGE, from the file that holds the changed rows."""
    sets = ", ".join(f"{name} = s.{name}" for name in ("user_id", "event", "url", "price", "ts"))
    began = time.perf_counter()
    node.sql(f"MERGE INTO events t USING read_parquet('{work / 'changes.parquet'}') s ON t.id = s.id "
             f"WHEN MATCHED THEN UPDATE SET {sets} WHEN NOT MATCHED THEN INSERT (id, user_id, event, url, price, ts) "
             "VALUES (s.id, s.user_id, s.event, s.url, s.price, s.ts)")
    return time.perf_counter() - began


INSERT = "\\set id random(1, 9000000000000000)\nINSERT INTO inserted (id, body) VALUES (:id, 'a row of some length')\n"


def inserts(options, work, report):
    """Single-row INSERTs, prepared, from 16 connections: pgbench on Millstream and on PostgreSQL."""
    (work / "insert.sql").write_text(INSERT)
    table = "CREATE TABLE inserted (id BIGINT NOT NULL, body TEXT)"
    try:
        postgres = Postgres(free_port(), scale=1)
    except Unavailable as error:
        report.skipped("single-row INSERTs", str(error))
        return
    ours, theirs = [], []
    with postgres, Node(options.binaries, fresh(work), tier_age="2s", maintenance_interval="5s") as node:
        postgres.sql(table)
        node.sql(table)
        for _ in range(options.rounds):
            theirs.append(postgres.script_per_s(work / "insert.sql", options.seconds))
            done = pgbench(node.pg_address, work / "insert.sql", options.seconds, postgres.pgbench)
            ours.append(done["per_s"])
            report.keep("inserts", done)
        rows = int(node.sql("SELECT count(*) FROM inserted")[0][0])
        node.sql("FLUSH")
        time.sleep(10)  # two rounds of maintenance
        files = len(active_files(node.data / "lake" / "public" / "inserted"))
    report.add("single-row INSERTs, 16 connections", ours, "rows/s", at_least=None if options.quick else 10_000,
               note="prepared, each acknowledged behind its fsync")
    report.add("single-row INSERTs, PostgreSQL", theirs, "rows/s")
    report.add("single-row INSERTs / PostgreSQL", ratios(ours, theirs), "×")
    report.add("files after single-row INSERTs", files, "files", below=100, note=f"{rows:,} rows")


def upserts(options, work, report):
    """Multi-row INSERT ... ON CONFLICT DO UPDATE from 16 connections, over a million keys."""
    keys = sized(options, 1_000_000)
    sets = "".join(f"\\set k{i} :first + {i}\n" for i in range(UPSERTED))
    values = ", ".join(f"(:k{i}, :amount)" for i in range(UPSERTED))
    (work / "upsert.sql").write_text(
        f"\\set first random(0, {keys // UPSERTED - 1}) * {UPSERTED}\n\\set amount random(1, 1000000)\n{sets}"
        f"INSERT INTO upserted (id, amount) VALUES {values} ON CONFLICT (id) DO UPDATE SET amount = excluded.amount\n")
    table = "CREATE TABLE upserted (id BIGINT PRIMARY KEY, amount BIGINT)"
    try:
        postgres = Postgres(free_port(), scale=1)
    except Unavailable as error:
        report.skipped("upserts", str(error))
        return
    ours, theirs = [], []
    with postgres, Node(options.binaries, fresh(work), tier_age="5s", maintenance_interval="10s") as node:
        postgres.sql(table)
        node.sql(table)
        for _ in range(options.rounds):
            theirs.append(UPSERTED * postgres.script_per_s(work / "upsert.sql", options.seconds))
            done = pgbench(node.pg_address, work / "upsert.sql", options.seconds, postgres.pgbench)
            ours.append(UPSERTED * done["per_s"])
            report.keep("upserts", done)
        rows, distinct = node.sql("SELECT count(*), count(DISTINCT id) FROM upserted")[0]
        if int(rows) != int(distinct) or int(rows) > keys:
            raise RuntimeError(f"{rows} rows of {distinct} keys, of {keys} that were written")
    report.add("upserts, 16 connections", ours, "rows/s", at_least=None if options.quick else 50_000,
               note=f"{UPSERTED} rows a statement, {keys:,} keys, each acknowledged behind its fsync")
    report.add("upserts, PostgreSQL", theirs, "rows/s")
    report.add("upserts / PostgreSQL", ratios(ours, theirs), "×")


def check_table(node, name, rows):
    found = int(node.sql(f"SELECT count(*) FROM {name}")[0][0])
    if found != rows:
        raise RuntimeError(f"{name} has {found} rows instead of {rows}")
