"""Owns the measurements: what is run, what it is compared with, and the bar."""
import pathlib
import shutil
import socket
import statistics
import subprocess
import time

from processes import Node, Plain, Redis, active_files, generator

EVENT = '{"user_id":123456,"event":"purchase","url":"/products/1234","price":19.99,"ts":"2026-01-01T00:00:00Z"}'
assert len(EVENT) == 102

# Nothing reaches the lake while the clock runs.
LOG_ONLY = {"tier_bytes": "1000000000000", "tier_age": "10h"}
MIB = 1 << 20


def start(options, work, report):
    """From the command to the first yes of /readyz, and the memory of a node that does nothing."""
    data = work / "data"
    with Node(options.binaries, data) as node:
        node.create("e")
        node.stop()
    starts, memory = [], []
    for _ in range(max(5, options.rounds)):
        with Node(options.binaries, data) as node:
            starts.append(node.start_s * 1000)
            time.sleep(2)
            memory.append(node.rss() / MIB)
    report.add("start", starts, "ms", below=300)
    report.add("idle memory", memory, "MiB", below=80e6 / MIB)


def ingest(options, work, report):
    """Durable ingest beside the one-core decode limit and Redis Streams, in turn."""
    redis = shutil.which("redis-server") and shutil.which("redis-benchmark")
    limits, rates, peers, memory = [], {1000: [], 5000: []}, [], []
    for round_ in range(options.rounds):
        limit = generator(options.binaries, "decode", events=1000, seconds=3)
        report.keep("decode", limit)
        limits.append(limit["events_per_s"])
        for events in rates:
            data = fresh(work)
            with Node(options.binaries, data, **LOG_ONLY) as node:
                node.create("e")
                figures = bulk(options, node, events=events)
                report.keep("ingest", figures)
                rates[events].append(figures["events_per_s"])
                memory.append(node.peak_rss / MIB)
                check_count(node, figures["events"])
        if redis:
            with Redis(work, free_port()) as server:
                peers.append(server.xadd_per_s(EVENT, 1_000_000))
    best = max(rates, key=lambda events: statistics.median(rates[events]))
    report.add("one core decodes", limits, "events/s")
    for events, values in rates.items():
        report.add(f"durable ingest, 4 × {events} events a request", values, "events/s")
    ratios = [rate / limit for rate, limit in zip(rates[best], limits)]
    report.add("durable ingest / decode limit", ratios, "×", at_least=0.5, note=f"{best} events a request; the aim is 0.70")
    report.add("memory under ingest", max(memory), "MiB", below=1024, note="highest of all rounds")
    if redis:
        report.add("Redis Streams, fsync always", peers, "events/s", note="4 clients, 1,000 XADDs in flight")
        report.add("durable ingest / Redis Streams", [r / p for r, p in zip(rates[best], peers)], "×", at_least=4)
    else:
        report.skipped("durable ingest / Redis Streams", "redis-server and redis-benchmark are not installed")


def tiering(options, work, report):
    """Ingest while the lake keeps up: the time until the last row is in the lake counts."""
    limits, rates, memory, behind = [], [], [], []
    for _ in range(options.rounds):
        limits.append(generator(options.binaries, "decode", events=1000, seconds=3)["events_per_s"])
        with Node(options.binaries, fresh(work), tier_age="2s") as node:
            node.create("e")
            figures = bulk(options, node, events=5000, seconds=options.seconds * 2)
            behind.append(node.figure("e", "lag_rows") / figures["events"])
            figures["catch_up_s"] = node.wait_for_lake("e")
            report.keep("tiering", figures)
            rates.append(figures["events"] / (figures["seconds"] + figures["catch_up_s"]))
            memory.append(node.peak_rss / MIB)
            check_count(node, figures["events"])
    report.add("ingest into log and lake", rates, "events/s", note="until the last row is in the lake")
    report.add("ingest into log and lake / decode limit", [r / l for r, l in zip(rates, limits)], "×", at_least=0.35)
    report.add("rows not yet in the lake when ingest ends", [100 * b for b in behind], "%")
    report.add("memory under ingest and tiering", max(memory), "MiB", below=1024, note="highest of all rounds")


def single(options, work, report):
    """One event a request, 64 connections."""
    rates, p99 = [], []
    for _ in range(options.rounds):
        with Node(options.binaries, fresh(work)) as node:
            node.create("e")
            figures = bulk(options, node, events=1, connections=64)
            report.keep("single", figures)
            rates.append(figures["events_per_s"])
            p99.append(figures["latency"]["p99_ms"])
            check_count(node, figures["events"])
    report.add("single-event requests, 64 connections", rates, "requests/s", at_least=25_000)
    report.add("single-event requests, p99", p99, "ms", below=10)


def freshness(options, work, report):
    """From a row's acknowledgement until a query's answer has it, at 100,000 events/s."""
    for query, name in (("pointed", "a count at its offset"), ("max", "max(_offset) of all")):
        p99 = []
        for _ in range(options.rounds):
            with Node(options.binaries, fresh(work)) as node:
                node.create("e")
                figures = generator(options.binaries, "freshness", addr=node.address, stream="e", rate=100_000,
                                    seconds=options.seconds, query=query)
                report.keep("freshness", figures)
                p99.append(figures["acknowledged_to_visible"]["p99_ms"])
        report.add(f"acknowledged to visible, p99, by {name}", p99, "ms", below=10)


def queries(options, work, report):
    """A count and a group-by over a stream in the lake, and plain DataFusion on the same files.

    The one answers over HTTP, the other over a pipe: what `SELECT 1` takes at the same moment is taken off from both.
    """
    statements = {
        "count(*)": "SELECT count(*) FROM e",
        "count with a filter": "SELECT count(*) FROM e WHERE price > 50",
        "group by 6 values": "SELECT event, count(*), avg(price) FROM e GROUP BY event",
        "group by 900,000 values": "SELECT user_id, count(*) AS n, sum(price) FROM e GROUP BY user_id ORDER BY n DESC LIMIT 10",
    }
    with Node(options.binaries, fresh(work), tier_age="2s", maintenance_interval="10h") as node:
        node.create("e")
        bulk(options, node, events=5000, total=options.rows)
        node.wait_for_lake("e")
        files = active_files(work / "data" / "lake" / "public" / "e")
        report.add("rows of the stream", int(node.sql("SELECT count(*) FROM e")[0][0]), "rows", note=f"{len(files)} files")
        with Plain(options.binaries, files) as plain:
            for name, sql in statements.items():
                ours, theirs = [], []
                for round_ in range(options.rounds * 2 + 1):
                    took = node.query(sql) - min(node.query("SELECT 1") for _ in range(5))
                    peer = plain.query(sql) - min(plain.query("SELECT 1") for _ in range(5))
                    if round_ > 0:  # the first round warms both
                        ours.append(took)
                        theirs.append(peer)
                report.add(f"{name}: Millstream", ours, "ms")
                report.add(f"{name}: plain DataFusion", theirs, "ms")
                report.add(f"{name}: ratio", statistics.median(ours) / statistics.median(theirs), "×", below=1.1)


def restart(options, work, report):
    """The start of a node with a large log, after `kill -9`."""
    wanted = options.log_gb * 1e9
    data, rows = fresh(work), 0
    with Node(options.binaries, data, **LOG_ONLY) as node:
        node.create("e")
        while node.figure("e", "log_bytes") < wanted:
            rows += bulk(options, node, events=5000, total=min(5_000_000, int(wanted / 100)))["events"]
        size = node.figure("e", "log_bytes")
    starts, memory = [], []
    for _ in range(options.rounds):
        with Node(options.binaries, data, **LOG_ONLY) as node:
            starts.append(node.start_s)
            memory.append(node.rss() / MIB)
            offsets = node.sql("SELECT log_end FROM system.streams WHERE name = 'e'")[0][0]
            if str(rows) not in offsets:
                raise RuntimeError(f"{rows} rows were acknowledged, the log ends at {offsets}")
    report.add("restart after kill -9", starts, "s", below=2, note=f"{size / 1e9:.1f} GB of log, {rows:,} rows")
    report.add("memory after the restart", memory, "MiB")


def bulk(options, node, **load):
    load = {"connections": 4, **load}
    if "total" not in load:
        load.setdefault("seconds", options.seconds)
    return generator(options.binaries, "bulk", addr=node.address, stream="e", **load)


def check_count(node, events):
    found = int(node.sql("SELECT count(*) FROM e")[0][0])
    if found != events:
        raise RuntimeError(f"{events} events were acknowledged, {found} are there")


def fresh(work):
    data = pathlib.Path(work) / "data"
    shutil.rmtree(data, ignore_errors=True)
    subprocess.run(["sync", "-f", str(work)], check=False)  # what the last round left does not slow this one
    return data


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


MEASUREMENTS = {f.__name__: f for f in (start, ingest, tiering, single, freshness, queries, restart)}
