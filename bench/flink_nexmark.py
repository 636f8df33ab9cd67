#!/usr/bin/env python3
"""Nexmark in Apache Flink, for comparison: `python3 bench/flink_nexmark.py --help`.

Runs the published queries over the events that `millstream-nexmark write` puts into CSV files, on Flink's own
mini-cluster with parallelism 2, into sinks that drop every row. Two configurations, each in a process of its own:

    rocksdb   state in RocksDB, an exactly-once checkpoint every second, incremental
    heap      state on the heap, no checkpoints: nothing is durable

Each (query, configuration) gives one line of JSON: rows read, seconds of each run, events per second by their median.
With --serve each line of standard input asks for one run instead.
The time of a job over ten rows, measured just before, is taken off; where a run takes less than three times that, there
is no rate but the word that more events are needed. Rows count as read once, however often a query names its stream.
The exit code says whether every query gave a rate. Needs Java 17, Python 3.9 to 3.12, and the release binary
`millstream-nexmark`; Flink itself is put into a virtual environment below the target folder, once.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
EVENT_COLUMNS = {
    "person": "id bigint, name string, email_address string, credit_card string, city string, state string, us bigint,"
              " extra string",
    "auction": "id bigint, item_name string, description string, initial_bid bigint, reserve bigint, us bigint,"
               " expires_us bigint, seller bigint, category bigint, extra string,"
               " expires as to_timestamp_ltz(expires_us / 1000, 3)",
    "bid": "auction bigint, bidder bigint, price bigint, channel string, url string, us bigint, extra string",
}
AUCTION = ", ".join("a." + c for c in "id item_name description initial_bid reserve date_time expires seller category"
                    " extra".split())
BID = "auction, bidder, price, channel, url, date_time, extra"
DAY = "date_format(date_time, 'yyyy-MM-dd')"
WHILE_OPEN = "a.id = b.auction and b.date_time between a.date_time and a.expires"
TEN_SECONDS = "descriptor(date_time), interval '10' second"


def tumble(table):
    return f"table(tumble(table {table}, {TEN_SECONDS}))"


def by_rank(what, name):
    ranks = ["price < 10000", "price >= 10000 and price < 1000000", "price >= 1000000"]
    counts = [f"count({what}) filter (where {rank}) as rank{i}_{name}" for i, rank in enumerate(ranks, 1)]
    return ", ".join([f"count({what}) as total_{name}", *counts])


COUNTS = ", ".join([by_rank("*", "bids"), by_rank("distinct bidder", "bidders"), by_rank("distinct auction", "auctions")])
HOP_COUNTS = """select auction, count(*) as num, window_start, window_end
    from table(hop(table bid, descriptor(date_time), interval '2' second, interval '10' second))
    group by auction, window_start, window_end"""
CHANNEL_ID = "regexp_extract(url, '(&|^)channel_id=([^&]*)', 2)"

# As published where Flink runs them so; the crate's README lists how they differ, here q12 and q13 alike.
QUERIES = {
    "q0": "select auction, bidder, price, date_time, extra from bid",
    "q1": "select auction, bidder, 0.908 * price as price, date_time, extra from bid",
    "q2": "select auction, price from bid where mod(auction, 123) = 0",
    "q3": """select p.name, p.city, p.state, a.id from auction a join person p on a.seller = p.id
        where a.category = 10 and (p.state = 'OR' or p.state = 'ID' or p.state = 'CA')""",
    "q4": f"""select category, avg(final) as avg_final from
        (select a.id, a.category, max(b.price) as final from auction a, bid b where {WHILE_OPEN} group by a.id, a.category)
        group by category""",
    "q5": f"""select c.auction, c.num from ({HOP_COUNTS}) c
        join (select max(num) as num, window_start, window_end from ({HOP_COUNTS}) group by window_start, window_end) m
        on c.window_start = m.window_start and c.window_end = m.window_end and c.num >= m.num""",
    "q7": f"""select b.auction, b.price, b.bidder, b.date_time, b.extra from bid b
        join (select max(price) as highest, window_end as ends from {tumble('bid')} group by window_start, window_end) w
        on b.price = w.highest
        where cast(b.date_time as timestamp(3)) between w.ends - interval '10' second and w.ends""",
    "q8": f"""select p.id, p.name, p.window_start from
        (select id, name, window_start, window_end from {tumble('person')} group by id, name, window_start, window_end) p
        join (select seller, window_start, window_end from {tumble('auction')} group by seller, window_start, window_end) a
        on p.id = a.seller and p.window_start = a.window_start and p.window_end = a.window_end""",
    "q9": f"""select id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra,
            auction, bidder, price, bid_date_time, bid_extra from
        (select {AUCTION}, b.auction, b.bidder, b.price, b.date_time as bid_date_time, b.extra as bid_extra,
            row_number() over (partition by a.id order by b.price desc, b.date_time) as place
        from auction a, bid b where {WHILE_OPEN}) where place <= 1""",
    "q10": f"select auction, bidder, price, date_time, extra, {DAY}, date_format(date_time, 'HH:mm') from bid",
    "q11": """select bidder, count(*) as bid_count, window_start, window_end
        from table(session(table bid partition by bidder, descriptor(date_time), interval '10' second))
        group by bidder, window_start, window_end""",
    "q12": f"""select bidder, count(*) as bid_count, window_start, window_end from {tumble('bid')}
        group by bidder, window_start, window_end""",
    "q13": """select b.auction, b.bidder, b.price, b.date_time, s.`value` from bid b
        join side_input s on mod(b.auction, 10000) = s.`key`""",
    "q14": """select auction, bidder, 0.908 * price as price,
            case when hour(date_time) >= 8 and hour(date_time) <= 18 then 'dayTime'
                when hour(date_time) <= 6 or hour(date_time) >= 20 then 'nightTime' else 'otherTime' end as bid_time_type,
            date_time, extra, char_length(extra) - char_length(replace(extra, 'c', '')) as c_counts
        from bid where 0.908 * price > 1000000 and 0.908 * price < 50000000""",
    "q15": f"select {DAY} as `day`, {COUNTS} from bid group by {DAY}",
    "q16": f"""select channel, {DAY} as `day`, max(date_format(date_time, 'HH:mm')) as `minute`, {COUNTS}
        from bid group by channel, {DAY}""",
    "q17": f"""select auction, {DAY} as `day`, {by_rank('*', 'bids')}, min(price) as min_price, max(price) as max_price,
        avg(price) as avg_price, sum(price) as sum_price from bid group by auction, {DAY}""",
    "q18": f"""select {BID} from
        (select {BID}, row_number() over (partition by bidder, auction order by date_time desc) as place from bid)
        where place <= 1""",
    "q19": f"""select {BID}, rank_number from
        (select {BID}, row_number() over (partition by auction order by price desc) as rank_number from bid)
        where rank_number <= 10""",
    "q20": """select b.auction, b.bidder, b.price, b.channel, b.url, b.date_time as bid_date_time, b.extra as bid_extra,
            a.item_name, a.description, a.initial_bid, a.reserve, a.date_time as auction_date_time, a.expires, a.seller,
            a.category, a.extra as auction_extra
        from bid b join auction a on b.auction = a.id where a.category = 10""",
    "q21": f"""select auction, bidder, price, channel, case when lower(channel) = 'apple' then '0'
            when lower(channel) = 'google' then '1' when lower(channel) = 'facebook' then '2'
            when lower(channel) = 'baidu' then '3' else {CHANNEL_ID} end as channel_id
        from bid where {CHANNEL_ID} is not null or lower(channel) in ('apple', 'google', 'facebook', 'baidu')""",
    "q22": """select auction, bidder, price, channel, split_index(url, '/', 3) as dir1, split_index(url, '/', 4) as dir2,
        split_index(url, '/', 5) as dir3 from bid""",
}
READS = {"q3": ["person", "auction"], "q8": ["person", "auction"], "q4": ["auction", "bid"], "q9": ["auction", "bid"],
         "q20": ["auction", "bid"]}


def arguments():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")).resolve()
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--binary", type=pathlib.Path, default=target / "release" / "millstream-nexmark")
    a.add_argument("--venv", type=pathlib.Path, default=target / "flink-venv", help="made if it is not there")
    a.add_argument("--work", type=pathlib.Path, default=target / "flink-nexmark", help="events and checkpoints")
    a.add_argument("--queries", default=",".join(QUERIES), help="q0,q5,… (default all that Flink runs: not q6)")
    a.add_argument("--states", default="rocksdb,heap", help="rocksdb, heap or both (default both)")
    a.add_argument("--events", type=int, default=10_000_000, help="events of all kinds (default 10 M)")
    a.add_argument("--per-second", type=int, default=100_000, help="events in a second of event time (default 100,000)")
    a.add_argument("--runs", type=int, default=3, help="timed runs of each, after one that is not (default 3)")
    a.add_argument("--heap-gb", type=int, default=4, help="the JVM's heap (default 4)")
    a.add_argument("--flink", default="2.3.0", help="version of the PyPI package apache-flink (default 2.3.0)")
    a.add_argument("--serve", action="store_true", help="take {query, events} as lines of JSON, one timed run each")
    a.add_argument("--inside", choices=["rocksdb", "heap"], help=argparse.SUPPRESS)
    a.add_argument("--rows", type=json.loads, help=argparse.SUPPRESS)
    return a.parse_args()


def python_with_flink(options):
    """The virtual environment's Python; the environment is marked when it is whole."""
    python = options.venv / "bin" / "python"
    mark = options.venv / f"apache-flink-{options.flink}"
    if not mark.exists():
        print(f"putting apache-flink {options.flink} into {options.venv} …", file=sys.stderr)
        venv.create(options.venv, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"apache-flink=={options.flink}"], check=True)
        mark.touch()
    return python


def events(options, count):
    """Writes so many events if they are not there; gives back the folder and the rows of each kind."""
    if not options.binary.exists():
        sys.exit(f"{options.binary} is not there: cargo build --release -p millstream -p millstream-nexmark")
    folder = options.work / f"events-{count}-{options.per_second}"
    rows = folder / "rows.json"
    if not rows.exists():
        command = [options.binary, "write", folder, str(count), str(options.per_second), "2"]
        rows.write_text(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return folder, json.loads(rows.read_text())


def outside(options):
    queries = options.queries.split(",")
    if unknown := [q for q in queries if q not in QUERIES]:
        sys.exit(f"no query {', '.join(unknown)}; there are {', '.join(QUERIES)}")
    python = python_with_flink(options)
    rows = {} if options.serve else events(options, options.events)[1]
    worst = 0
    for state in options.states.split(","):
        environment = os.environ | {"JVM_ARGS": f"-Xms{options.heap_gb}g -Xmx{options.heap_gb}g"}
        command = [python, __file__, *sys.argv[1:], "--inside", state, "--rows", json.dumps(rows)]
        worst = max(worst, subprocess.run(command, env=environment).returncode)
    sys.exit(worst)


def cluster(options):
    """A table environment whose jobs run in this process's JVM."""
    from pyflink.table import EnvironmentSettings, TableEnvironment

    settings = {
        "parallelism.default": "2",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        "taskmanager.memory.managed.size": "2gb",
        "state.backend.type": "rocksdb" if options.inside == "rocksdb" else "hashmap",
        # As nexmark-flink sets them.
        "table.exec.mini-batch.enabled": "true",
        "table.exec.mini-batch.allow-latency": "2 s",
        "table.exec.mini-batch.size": "50000",
        "table.optimizer.distinct-agg.split.enabled": "true",
    }
    if options.inside == "rocksdb":
        checkpoints = options.work / "checkpoints"
        shutil.rmtree(checkpoints, ignore_errors=True)
        settings |= {
            "execution.checkpointing.interval": "1 s",
            "execution.checkpointing.mode": "EXACTLY_ONCE",
            "execution.checkpointing.incremental": "true",
            # As nexmark-flink sets it: a job ends with its last row, not with the checkpoint after it.
            "execution.checkpointing.checkpoints-after-tasks-finish.enabled": "false",
            "execution.checkpointing.dir": checkpoints.resolve().as_uri(),
        }
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in settings.items():
        environment.get_config().set(name, value)
    return environment


def declare(environment, folder):
    for table in [*EVENT_COLUMNS, "side_input", "ten"]:
        environment.execute_sql(f"drop table if exists {table}")
    for table, columns in EVENT_COLUMNS.items():
        # Watermarks as published.
        environment.execute_sql(f"""create table {table} ({columns}, date_time as to_timestamp_ltz(us / 1000, 3),
            watermark for date_time as date_time - interval '4' second)
            with ('connector' = 'filesystem', 'path' = '{(folder / table).resolve().as_uri()}', 'format' = 'csv')""")
    environment.execute_sql(f"""create table side_input (`key` bigint, `value` string)
        with ('connector' = 'filesystem', 'path' = '{(folder / "side_input").resolve().as_uri()}', 'format' = 'csv')""")
    environment.execute_sql("""create table ten (id bigint) with ('connector' = 'datagen', 'number-of-rows' = '10',
        'rows-per-second' = '1000000')""")


def seconds(environment, query):
    from pyflink.table import TableDescriptor

    sink = TableDescriptor.for_connector("blackhole").build()
    start = time.perf_counter()
    environment.sql_query(query).execute_insert(sink).wait()
    return time.perf_counter() - start


def measured(environment, query, rows, runs):
    """The figures of one query."""
    start_up = statistics.median(seconds(environment, "select id from ten") for _ in range(3))
    taken = [seconds(environment, query) for _ in range(runs)]
    figures = {"rows": rows, "start_up_s": round(start_up, 3), "run_s": [round(s, 3) for s in taken]}
    run = statistics.median(taken)
    if run < 3 * start_up:
        return figures | {"error": "the runs are too short beside the start-up; give more --events or an idle machine"}
    return figures | {"events_per_second": round(rows / (run - start_up))}


def inside(options):
    folder, _ = events(options, options.events)
    environment = cluster(options)
    declare(environment, folder)
    seconds(environment, "select id from ten")
    failed = False
    for name in options.queries.split(","):
        figures = one(options, environment, name, options.rows, warm=True)
        failed |= "error" in figures
        print(json.dumps(figures), flush=True)
    sys.exit(1 if failed else 0)


def one(options, environment, name, rows, warm):
    """What is printed of one query; it runs once without a clock if it is to be warm."""
    figures = {"engine": "flink", "version": options.flink, "state": options.inside, "query": name}
    rows = sum(rows[kind] for kind in READS.get(name, ["bid"]))
    try:
        if warm:
            seconds(environment, QUERIES[name])
        figures |= measured(environment, QUERIES[name], rows, 1 if options.serve else options.runs)
    except Exception as error:  # one failed query must not cost the others
        figures["error"] = str(error)[-600:]
    return figures


def serve(options):
    """Answers each line of standard input, such as {"query": "q5", "events": 2000000}, with a line of figures."""
    environment, declared, seen = cluster(options), None, set()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        folder, rows = events(options, wanted["events"])
        if declared != folder:
            declare(environment, folder)
            declared = folder
        name = wanted["query"]
        if not seen:
            seconds(environment, "select id from ten")
        figures = one(options, environment, name, rows, warm=name not in seen)
        seen.add(name)
        print(json.dumps(figures | {"events": wanted["events"]}), flush=True)


if __name__ == "__main__":
    options = arguments()
    if not options.inside:
        outside(options)
    elif options.serve:
        serve(options)
    else:
        inside(options)
