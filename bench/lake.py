"""Owns what tables are compared with: DuckDB and delta-rs in an environment of their own, and TPC-H's data and answers."""
import csv
import decimal
import json
import os
import pathlib
import shutil
import subprocess
import sys
import venv

from peers import Unavailable

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ["duckdb", "deltalake", "pyarrow", "numpy", "tpchgen-cli"]
THREADS = 2
# The published sum of q17 is 0.03 from the exact one; the specification allows 100.
PUBLISHED_SLACK = decimal.Decimal("0.04")


def environment():
    """The folder of programs of the environment; made once."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")).resolve()
    folder = target / "lake-venv"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, clear=True, with_pip=True)
        done = subprocess.run([folder / "bin" / "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True)
        if done.returncode != 0:
            raise Unavailable(f"{', '.join(PACKAGES)} do not install: {done.stderr.strip()[-300:]}")
        ready.touch()
    return folder / "bin"


class Peer:
    """DuckDB and delta-rs in one process, which takes one command after the other."""

    def __init__(self):
        command = [environment() / "python", HERE / "lake_peer.py"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process of DuckDB and delta-rs ended")
        return json.loads(line)

    def do(self, name, **arguments):
        """The figures of one command of `lake_peer.py`."""
        arguments = {key: str(value) if isinstance(value, pathlib.Path) else value for key, value in arguments.items()}
        self.process.stdin.write(json.dumps({"do": name, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self._line()
        if "error" in answer:
            raise RuntimeError(f"{name}: {answer['error']}")
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def tpch_data(folder, scale):
    """The eight tables of TPC-H as Parquet files, as `tpchgen-cli` writes them."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [environment() / "tpchgen-cli", "parquet", "-s", f"{scale:g}", "--output-dir", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"tpchgen-cli: {done.stderr.strip()[-600:]}")
    return folder


def tpch_tables():
    """The statements that make the tables, by table."""
    statements = (HERE / "tpch" / "tables.sql").read_text().split(";")
    return {text.split()[2]: text.strip() for text in statements if text.strip()}


def tpch_queries():
    """The 22 queries, by number."""
    return {n: (HERE / "tpch" / "queries" / f"q{n:02}.sql").read_text() for n in range(1, 23)}


def clickbench():
    """The statement that makes the table, and the queries by their numbers."""
    folder = HERE / "clickbench"
    queries = [text.strip() for text in (folder / "queries.sql").read_text().split(";") if text.strip()]
    return (folder / "table.sql").read_text(), dict(enumerate(queries, 1))


def tpch_answer(number):
    """The published answer at scale 1."""
    with open(HERE / "tpch" / "answers" / f"q{number:02}.csv", newline="") as file:
        return list(csv.reader(file, delimiter="|"))[1:]


def difference(found, wanted, slack=0):
    """What the first row that differs looks like on both sides; None if there is none. Rows of a tie may change places,
    numbers that are written with decimals may differ by `slack`."""
    if len(found) != len(wanted):
        return f"{len(found)} rows instead of {len(wanted)}"
    if all(same_row(a, b, slack) for a, b in zip(found, wanted)):
        return None
    left, right = (sorted(rows, key=lambda row: [rough(value) for value in row]) for rows in (found, wanted))
    return next((f"{a} instead of {b}" for a, b in zip(left, right) if not same_row(a, b, slack)), None)


def same_row(found, wanted, slack=0):
    return len(found) == len(wanted) and all(same_value(a, b, slack) for a, b in zip(found, wanted))


def same_value(found, wanted, slack=0):
    """Whether two values are the same as far as both are written out; averages may differ in their sixth digit."""
    if found == wanted:
        return True
    a, b = number(found), number(wanted)
    if a is None or b is None:
        return text(found) == text(wanted)
    if a == b:
        return True
    shorter = decimal.Decimal(1).scaleb(max(a.as_tuple().exponent, b.as_tuple().exponent))
    fractions = a.as_tuple().exponent < 0 and b.as_tuple().exponent < 0
    return fractions and abs(a - b) <= max(shorter, abs(b) * decimal.Decimal("1e-9"), slack)


def number(value):
    try:
        return decimal.Decimal(str(value))
    except decimal.InvalidOperation:
        return None


def text(value):
    return "" if value is None else str(value).strip()


def rough(value):
    """A key to sort by that forgives the last digits."""
    found = number(value)
    return text(value) if found is None else f"{float(found):.4g}"
