#!/usr/bin/env python3
"""Runs every benchmark side by side and writes the report: `make bench`, or `python3 bench/run.py --help`.

Needs the release binaries `millstream`, `millstream-bench` and `millstream-nexmark`, Python 3.10 and nothing else; for
the comparisons redis-server and redis-benchmark, postgres, initdb and pgbench, and Java 17 for Apache Flink, which is put
into a virtual environment once. What is not there is named and skipped. Ratios are taken within one run: the two sides alternate and
the median of the rounds counts.
"""
import argparse
import datetime
import os
import pathlib
import shutil
import sys
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import measure  # noqa: E402
from measure_memory import larger_than_memory  # noqa: E402
from measure_nexmark import nexmark  # noqa: E402
from measure_tables import clickbench, copy, inserts, merge, tpch, upserts  # noqa: E402
from measure_views import aggregation, flat_cost, point_reads, three_views, view_freshness  # noqa: E402
from report import Report, machine  # noqa: E402

VIEWS = (aggregation, three_views, view_freshness, point_reads, flat_cost, nexmark)
TABLES = (tpch, clickbench, copy, inserts, merge, upserts, larger_than_memory)
MEASUREMENTS = measure.MEASUREMENTS | {f.__name__.replace("_", "-"): f for f in VIEWS + TABLES}
BINARIES = ("millstream", "millstream-bench", "millstream-nexmark")


def arguments():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--binaries", type=pathlib.Path, default=target / "release", help="folder of the three binaries")
    a.add_argument("--work", type=pathlib.Path, default=target / "bench-data", help="scratch folder, on a real disk")
    a.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="where reports are written")
    a.add_argument("--rounds", type=int, default=3, help="rounds of each comparison (default 3)")
    a.add_argument("--seconds", type=float, default=10, help="seconds of each ingest run (default 10)")
    a.add_argument("--rows", type=int, default=100_000_000, help="rows of the query comparison (default 100 M)")
    a.add_argument("--log-gb", type=float, default=5, help="size of the log for the restart (default 5)")
    a.add_argument("--full", action="store_true", help="histories of 100 M rows, not 10 M, where cost must stay flat; TPC-H at scale 10 too")
    a.add_argument("--quick", action="store_true", help="tiny sizes, one round: shows that everything runs, not how fast")
    a.add_argument("--view-memory", default="1 GB", help="memory of the view of 20 M keys (default 1 GB)")
    a.add_argument("--queries", help="Nexmark: q0,q5,… (default all)")
    a.add_argument("--events", type=int, help="Nexmark: events of all kinds (default as many as take some seconds)")
    a.add_argument("--no-flink", action="store_true", help="Nexmark: without Flink beside it")
    a.add_argument("--flink-figures", type=pathlib.Path, help="Nexmark: a file that keeps Flink's figures between runs")
    a.add_argument("--flink-heap-gb", type=int, default=4, help="Nexmark: the heap of Flink's JVM (default 4)")
    a.add_argument("--only", help=f"measurements, separated by commas: {', '.join(MEASUREMENTS)}")
    return quickened(a.parse_args())


def quickened(options):
    if options.quick:
        options.rounds, options.seconds, options.rows, options.log_gb = 1, 1, 200_000, 0.05
        options.events, options.view_memory = options.events or 20_000, "1 MB"
    return options


def main():
    options = arguments()
    for name in BINARIES:
        if not (options.binaries / name).exists():
            packages = " ".join(f"-p {name}" for name in BINARIES)
            sys.exit(f"{options.binaries / name} is not there: cargo build --release {packages}")
    chosen = options.only.split(",") if options.only else list(MEASUREMENTS)
    if unknown := [name for name in chosen if name not in MEASUREMENTS]:
        sys.exit(f"no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    report = Report(machine(), datetime.datetime.now().astimezone(), vars(options))
    for name in chosen:
        print(f"\n{name} …", flush=True)
        work = options.work / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            MEASUREMENTS[name](options, work, report)
        except Exception as error:  # one failed measurement must not cost the others
            traceback.print_exc()
            report.failed(name, error)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    print(f"\n{report.table()}\n")
    # A partial or shortened run is shown, but only a whole one is kept as the day's result.
    print(f"written to {report.write(options.results, whole=not (options.only or options.quick))}")
    sys.exit(0 if report.all_pass() else 1)


if __name__ == "__main__":
    main()
