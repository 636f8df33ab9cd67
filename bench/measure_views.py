"""Owns the measurements of materialized views: aggregation, ingest beside views, freshness, point reads, flat cost."""
import os
import statistics
import threading
import time

from measure import LOG_ONLY, MIB, bulk, check_count, free_port, fresh
from peers import Postgres, Unavailable
from processes import Node, Plain, active_files, generator

KEYED = "CREATE STREAM keyed (key BIGINT NOT NULL, value BIGINT NOT NULL)"
BY_KEY = "SELECT key, count(*) AS n, sum(value) AS total FROM {} GROUP BY key"
SMALL = 1000


def sized(options, rows):
    """A thousandth of the rows for a quick run."""
    return max(rows // SMALL, 1000) if options.quick else rows


def view(node, name, query, options=""):
    node.sql(f"CREATE MATERIALIZED VIEW {name} {options} AS {query}")


def feed(options, node, **load):
    """Feeds `keyed`; fails unless all rows are in."""
    figures = generator(options.binaries, "feed", addr=node.address, **load)
    if figures["events"] != load["events"]:
        raise RuntimeError(f"{figures['events']} rows of {load['events']} were accepted")
    return figures


def wait_for_view(node, name, rows):
    """Waits until a view has taken in so many rows of history; gives back the seconds."""
    began = time.perf_counter()
    while True:
        status, taken, error = node.sql(f"SELECT status, rows_in, last_error FROM system.views WHERE name = '{name}'")[0]
        if error:
            raise RuntimeError(f"{name}: {error}")
        if status == "running" and int(taken) >= rows:
            return time.perf_counter() - began
        time.sleep(0.02)


def aggregation(options, work, report):
    """Counts and sums by 1,000 keys beside plain DataFusion, by 1 M keys, and by 20 M keys in bounded memory."""
    by_few_keys(options, work, report)
    by_many_keys(options, work, report)
    by_more_keys_than_memory(options, work, report)


def by_few_keys(options, work, report):
    rows, keys = sized(options, 20_000_000), 1000
    live, history, peer = [], [], []
    for _ in range(options.rounds):
        with Node(options.binaries, fresh(work), maintenance_interval="10h", **LOG_ONLY) as node:
            node.sql(KEYED)
            view(node, "live", BY_KEY.format("keyed"))
            live.append(feed(options, node, keys=keys, events=rows, view="live")["events_per_s"])
            node.sql("FLUSH")
            node.wait_for_lake("keyed")
            began = time.perf_counter()
            view(node, "later", BY_KEY.format("keyed"))
            wait_for_view(node, "later", rows)
            history.append(rows / (time.perf_counter() - began))
            check_totals(node, "live", rows)
            check_totals(node, "later", rows)
            with Plain(options.binaries, active_files(work / "data" / "lake" / "public" / "keyed")) as plain:
                plain.query(BY_KEY.format("e"))
                took = [plain.query(BY_KEY.format("e")) for _ in range(3)]
            peer.append(rows / (statistics.median(took) / 1000))
    report.add("1,000 keys: plain DataFusion, from Parquet", peer, "events/s", note=f"{rows:,} rows")
    report.add("1,000 keys: view, rows over HTTP, log fsynced", live, "events/s")
    report.add("1,000 keys: view, rows over HTTP / DataFusion", ratios(live, peer), "×",
               note="with transfer, decoding and the fsync of each request, which the batch does without")
    report.add("1,000 keys: view over history in the lake", history, "events/s")
    report.add("1,000 keys: view over history / DataFusion", ratios(history, peer), "×", at_least=0.3)


def by_many_keys(options, work, report):
    rows, keys = sized(options, 10_000_000), sized(options, 1_000_000)
    rates, memory = [], []
    for _ in range(options.rounds):
        with Node(options.binaries, fresh(work), **LOG_ONLY) as node:
            node.sql(KEYED)
            view(node, "v", BY_KEY.format("keyed"))
            rates.append(feed(options, node, keys=keys, events=rows, view="v")["events_per_s"])
            memory.append(node.peak_rss / MIB)
            check_totals(node, "v", rows)
    report.add(f"{keys:,} keys: view", rates, "events/s", at_least=None if options.quick else 1_000_000,
               note=f"{rows:,} rows")
    report.add(f"{keys:,} keys: memory of the node", max(memory), "MiB", note="highest of all rounds")


def by_more_keys_than_memory(options, work, report):
    """The figures of the last third count, when all keys are there; memory is compared with that before it."""
    rows, keys = sized(options, 60_000_000), sized(options, 20_000_000)
    third = rows // 3
    with Node(options.binaries, fresh(work), **LOG_ONLY) as node:
        node.sql(KEYED)
        limit = options.view_memory
        try:
            view(node, "v", BY_KEY.format("keyed"), f"WITH (memory = '{limit}')")
        except RuntimeError as error:
            report.skipped(f"{keys:,} keys", f"the option memory is refused: {error}")
            return
        thirds = []
        for part in range(3):
            with Watch(node) as watch:
                figures = feed(options, node, keys=keys, first=part * third, events=third, view="v")
            report.keep("more keys than memory", figures | {"rss": watch.seen})
            thirds.append((figures["events_per_s"], watch.highest() / MIB))
        check_totals(node, "v", 3 * third)
    (_, _), (_, before), (rate, after) = thirds
    name = f"{keys:,} keys, memory = '{limit}'"
    report.add(f"{name}: view", rate, "events/s", at_least=None if options.quick else 200_000,
               note=f"the last third of {3 * third:,} rows; before that {thirds[0][0]:,.0f} and {thirds[1][0]:,.0f}")
    report.add(f"{name}: memory of the node", after, "MiB", note="highest of the last third")
    report.add(f"{name}: memory of the last third / the second", after / before, "×", below=1.1)


def check_totals(node, name, rows):
    found = int(node.sql(f"SELECT sum(n) FROM {name}")[0][0] or 0)
    if found != rows:
        raise RuntimeError(f"{name} counts {found} rows of {rows}")


def ratios(values, limits):
    return [value / limit for value, limit in zip(values, limits)]


class Watch:
    """The resident memory of a node while a block runs."""

    def __init__(self, node):
        self.node, self.seen, self.going = node, [], True
        self.thread = threading.Thread(target=self._look, daemon=True)

    def _look(self):
        while self.going:
            self.seen.append(self.node.rss())
            time.sleep(0.25)

    def highest(self):
        return max(self.seen)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        self.thread.join()


def three_views(options, work, report):
    """Ingest into log and lake with three views behind it, until FLUSH says that all of them have everything."""
    limits, rates, memory = [], [], []
    for _ in range(options.rounds):
        limits.append(generator(options.binaries, "decode", events=1000, seconds=min(3, options.seconds))["events_per_s"])
        with Node(options.binaries, fresh(work), tier_age="2s", query_timeout="30min") as node:
            node.create("e")
            create_three_views(node)
            figures = bulk(options, node, events=5000, seconds=options.seconds, flush=1)
            figures["catch_up_s"] = figures["seconds_until_flushed"] - figures["seconds"]
            report.keep("three views", figures)
            rates.append(figures["events"] / figures["seconds_until_flushed"])
            memory.append(node.peak_rss / MIB)
            check_count(node, figures["events"])
            for name in ("by_minute", "by_user", "by_category"):
                check_totals(node, name, figures["events"])
    report.add("ingest with three views", rates, "events/s", note="until FLUSH; the aim is 2.9 M")
    report.add("ingest with three views / decode limit", ratios(rates, limits), "×", at_least=0.25)
    report.add("memory with three views", max(memory), "MiB", note="highest of all rounds")


def create_three_views(node):
    """One windowed, one of 100,000 keys, one that joins a small stream."""
    node.sql("CREATE STREAM products (url TEXT NOT NULL, category BIGINT NOT NULL)")
    node.append("products", [{"url": f"/products/{n}", "category": n % 10} for n in range(1000, 10_000)])
    view(node, "by_minute", "SELECT event, window_start, count(*) AS n, sum(price) AS total "
                            "FROM TUMBLE(e, ts, INTERVAL '1' MINUTE) GROUP BY event, window_start")
    view(node, "by_user", "SELECT user_id % 100000 AS user, count(*) AS n, sum(price) AS total "
                          "FROM e GROUP BY user_id % 100000")
    view(node, "by_category", "SELECT p.category, count(*) AS n, sum(e.price) AS total "
                              "FROM e JOIN products p ON e.url = p.url GROUP BY p.category")


def view_freshness(options, work, report):
    """From a row's acknowledgement until a view's row has changed, at 100,000 events/s."""
    rate = 1000 if options.quick else 100_000
    for query, how in (("view-after", "a read behind the row's position"), ("view", "reads until it has changed")):
        p50, p99 = [], []
        for _ in range(options.rounds):
            with Node(options.binaries, fresh(work)) as node:
                node.create("e")
                view(node, "by_user", "SELECT user_id, count(*) AS n, sum(price) AS total FROM e GROUP BY user_id")
                figures = generator(options.binaries, "freshness", addr=node.address, stream="e", rate=rate,
                                    seconds=options.seconds, query=query, view="by_user")
                report.keep("view freshness", figures)
                p50.append(figures["acknowledged_to_visible"]["p50_ms"])
                p99.append(figures["acknowledged_to_visible"]["p99_ms"])
        report.add(f"acknowledged to a view's row changed, p50, by {how}", p50, "ms", below=5)
        report.add(f"acknowledged to a view's row changed, p99, by {how}", p99, "ms", below=25)


def point_reads(options, work, report):
    """Prepared reads of one row of a view over 16 connections, beside pgbench -S on PostgreSQL."""
    keys = sized(options, 1_000_000)
    try:
        postgres = Postgres(free_port(), scale=1 if options.quick else 10)
    except Unavailable as error:
        report.skipped("point reads / pgbench -S", str(error))
        return
    with postgres, Node(options.binaries, fresh(work), **LOG_ONLY) as node:
        node.sql(KEYED)
        view(node, "v", BY_KEY.format("keyed"))
        feed(options, node, keys=keys, sequential=1, events=keys, view="v")
        few = reads(options, report, node, keys, postgres)
        rows = sized(options, 100_000_000 if options.full else 10_000_000)
        feed(options, node, keys=keys, first=keys, events=rows - keys, view="v")
        check_totals(node, "v", rows)
        many = reads(options, report, node, keys, postgres)
    report.add("pgbench -S, 16 connections, PostgreSQL", few["pgbench"], "reads/s")
    report.add("our client, 16 connections, PostgreSQL", few["postgres"], "reads/s")
    report.add(f"point reads on a view of {keys:,} keys", few["view"], "reads/s", note=f"over {keys:,} rows")
    own = statistics.median(few["view"]) / statistics.median(few["postgres"])
    report.add("point reads / pgbench -S", ratios(few["view"], few["pgbench"]), "×", at_least=0.5,
               note=f"the aim is 1; by the same client {own:.2f} ×")
    report.add("point reads, p99", few["p99"], "ms", below=5)
    report.add(f"point reads after {rows:,} rows", many["view"], "reads/s")
    report.add(f"point reads after {rows:,} rows / pgbench -S", ratios(many["view"], many["pgbench"]), "×", at_least=0.5)
    report.add(f"point reads after {rows:,} rows, p99", many["p99"], "ms", below=5)
    change = statistics.median(many["view"]) / statistics.median(few["view"])
    report.add(f"point reads after {rows:,} rows / {keys:,}", change, "×", at_least=0.9)


def reads(options, report, node, keys, postgres):
    """Rates of the three sides, in turn."""
    seen = {"pgbench": [], "postgres": [], "view": [], "p99": []}
    for _ in range(options.rounds):
        seen["pgbench"].append(postgres.reads_per_s(options.seconds))
        theirs = generator(options.binaries, "points", addr=postgres.address, user="bench", database="postgres",
                           sql="SELECT abalance FROM pgbench_accounts WHERE aid = $1", first_key=1, keys=postgres.keys,
                           seconds=options.seconds)
        ours = generator(options.binaries, "points", addr=node.pg_address, sql="SELECT total FROM v WHERE key = $1",
                         keys=keys, seconds=options.seconds)
        for figures in (theirs, ours):
            report.keep("point reads", figures)
            if figures["absent"]:
                raise RuntimeError(f"{figures['absent']} keys of {figures['reads']} have no row")
        seen["postgres"].append(theirs["reads_per_s"])
        seen["view"].append(ours["reads_per_s"])
        seen["p99"].append(ours["latency"]["p99_ms"])
    return seen


# Views whose cost an event is watched as history grows: the query, and the stream's feed.
FLAT = {"by 100,000 keys": (BY_KEY.format("keyed"), {"keys": 100_000})}


def flat_cost(options, work, report):
    """The processor's time that a million events cost the node, ingest included, as history grows."""
    marks = [1_000_000, 10_000_000] + ([100_000_000] if options.full else [])
    for name, (query, load) in FLAT.items():
        costs, walls = {}, {}
        with Node(options.binaries, fresh(work), **LOG_ONLY) as node:
            node.sql(KEYED)
            view(node, "v", query)
            history, part = 0, sized(options, 1_000_000)
            for mark in (sized(options, mark) for mark in marks):
                if mark > history:
                    feed(options, node, **load, first=history, events=mark - history, view="v")
                    history = mark
                costs[mark], walls[mark] = [], []
                for _ in range(max(3, options.rounds)):
                    before = cpu_seconds(node)
                    figures = feed(options, node, **load, first=history, events=part, view="v")
                    history += part
                    costs[mark].append((cpu_seconds(node) - before) / part * 1e9)
                    walls[mark].append(figures["events_per_s"])
        for mark, cost in costs.items():
            report.add(f"cost of an event {name} behind {mark:,}", cost, "ns",
                       note=f"of processor time; {statistics.median(walls[mark]):,.0f} events/s")
        first, last = min(costs), max(costs)
        if first != last and statistics.median(costs[first]) > 0:
            growth = statistics.median(costs[last]) / statistics.median(costs[first])
            report.add(f"cost of an event {name} behind {last:,} / {first:,}", growth, "×", below=1.25)


def cpu_seconds(node):
    """Processor time of the node so far."""
    with open(f"/proc/{node.process.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
