#!/usr/bin/env python3
"""Runs every benchmark side by side and writes the report: `make bench`, or `python3 bench/run.py --help`.

Needs the release binaries `millstream` and `millstream-bench`, Python 3.10 and nothing else; redis-server and
redis-benchmark for the comparison with Redis Streams. Ratios are taken within one run: the two sides alternate and
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

from measure import MEASUREMENTS  # noqa: E402
from report import Report, machine  # noqa: E402


def arguments():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--binaries", type=pathlib.Path, default=target / "release", help="folder of the two binaries")
    a.add_argument("--work", type=pathlib.Path, default=target / "bench-data", help="scratch folder, on a real disk")
    a.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="where reports are written")
    a.add_argument("--rounds", type=int, default=3, help="rounds of each comparison (default 3)")
    a.add_argument("--seconds", type=float, default=10, help="seconds of each ingest run (default 10)")
    a.add_argument("--rows", type=int, default=100_000_000, help="rows of the query comparison (default 100 M)")
    a.add_argument("--log-gb", type=float, default=5, help="size of the log for the restart (default 5)")
    a.add_argument("--only", help=f"measurements, separated by commas: {', '.join(MEASUREMENTS)}")
    return a.parse_args()


def main():
    options = arguments()
    for name in ("millstream", "millstream-bench"):
        if not (options.binaries / name).exists():
            sys.exit(f"{options.binaries / name} is not there: cargo build --release -p millstream -p millstream-bench")
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
    print(f"written to {report.write(options.results, whole=not options.only)}")
    sys.exit(0 if report.all_pass() else 1)


if __name__ == "__main__":
    main()
