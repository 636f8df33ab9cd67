"""Owns the measurement of Nexmark: each query as a view of a running node, and in Apache Flink over the same events."""
import json
import math
import pathlib
import shutil
import statistics

from measure import LOG_ONLY, fresh
from peers import Flink, Unavailable
from processes import Node, generator

FOLDER = pathlib.Path(__file__).resolve().parent / "nexmark"
QUERIES = [f"q{n}" for n in range(23)]
# A run takes as many events as give it a few seconds.
SIZES = [250_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000]
RUN_S = 8
# Of these Flink takes minutes for a million.
FEW = {"q7": 1_000_000}
# Flink is given up to so many, where it needs more for a run that is long beside its start-up.
MOST = 16_000_000
BARS = {"rocksdb": ("Flink, RocksDB, checkpoints every second", 5), "heap": ("Flink, heap, nothing durable", 2)}


def nexmark(options, work, report):
    """Each query as a materialized view over streams with durable logs, beside Flink, in turn."""
    queries = options.queries.split(",") if options.queries else QUERIES
    if unknown := [q for q in queries if q not in QUERIES]:
        raise RuntimeError(f"no query {', '.join(unknown)}; there are {', '.join(QUERIES)}")
    flink = Peer(options, work, report)
    ours, first, theirs = {}, {}, {state: {} for state in BARS}
    try:
        for query in queries:
            try:
                events = enough_events(options, work, query)
                ours[query], first[query] = [], []
                for _ in range(options.rounds):
                    # Flink's processes keep their memory from query to query, a node begins anew. Where a machine gives
                    # free memory back to its host, pages that are touched for the first time cost more than the work:
                    # so there is a run before the one that counts, and both are told.
                    for rates in (first[query], ours[query]):
                        figures = run(options, work, query, events)
                        report.keep("nexmark", figures | {"is_first": rates is first[query]})
                        rates.append(figures["events_per_s"])
                    for state in flink.states:
                        if rate := flink.rate(query, state, events):
                            theirs[state].setdefault(query, []).append(rate)
            except RuntimeError as error:  # one failed query must not cost the others
                ours.pop(query, None)
                first.pop(query, None)
                report.failed(f"nexmark {query}", error)
                continue
            report.add(f"nexmark {query}", ours[query], "events/s", note=note(query, events, ours, first, theirs))
    finally:
        flink.close()
    summary(report, queries, ours, first, theirs)


def note(query, events, ours, first, theirs):
    parts = [f"{events:,} events; first run {statistics.median(first[query]):,.0f}"]
    for state, rates in theirs.items():
        if query in rates:
            rate = statistics.median(rates[query])
            parts.append(f"Flink {state} {rate:,.0f} ({statistics.median(ours[query]) / rate:.2f} ×)")
    return "; ".join(parts)


def summary(report, queries, ours, first, theirs):
    """Geometric means, and the lowest ratio."""
    medians = [statistics.median(rates) for rates in ours.values()]
    if medians:
        report.add("nexmark, geometric mean", geometric_mean(medians), "events/s", note=f"{len(medians)} queries")
    for state, (name, bar) in BARS.items():
        ratios = {q: statistics.median(ours[q]) / statistics.median(r) for q, r in theirs[state].items() if q in ours}
        if not ratios:
            report.skipped(f"nexmark / {name}", "there is no figure of Flink's")
            continue
        lacking = [q for q in queries if q not in ratios and q != "q6"]
        missing = f"; without {', '.join(lacking)}" if lacking else ""
        report.add(f"nexmark / {name}, geometric mean", geometric_mean(list(ratios.values())), "×", at_least=bar,
                   note=f"{len(ratios)} queries{missing}")
        cold = [statistics.median(first[q]) / statistics.median(theirs[state][q]) for q in ratios]
        report.add(f"nexmark, first runs / {name}, geometric mean", geometric_mean(cold), "×")
        lowest = min(ratios, key=ratios.get)
        least = {"at_least": 1} if state == "rocksdb" else {}
        report.add(f"nexmark / {name}, lowest", ratios[lowest], "×", note=lowest, **least)


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def enough_events(options, work, query):
    """As many as the command line says, or as many as take a few seconds."""
    if query in FEW:
        return FEW[query]
    if options.events:
        return options.events
    rate = run(options, work, query, SIZES[0] // 2)["site_events_per_s"]
    return next((size for size in SIZES if size >= rate * RUN_S), SIZES[-1])


def run(options, work, query, events):
    """One query on a fresh node: from the first request until a read behind the last position is answered."""
    with Node(options.binaries, fresh(work), **LOG_ONLY) as node:
        create_streams(node)
        node.sql(f"CREATE MATERIALIZED VIEW {query} AS " + (FOLDER / "queries" / f"{query}.sql").read_text())
        figures = generator(options.binaries, "feed", addr=node.address, query=query, view=query, events=events)
        check_view(node, query, figures["events"], events)
        rows, state = node.sql(f"SELECT rows, state_bytes FROM system.views WHERE name = '{query}'")[0]
        return figures | {"query": query, "site_events": events, "site_events_per_s": events / figures["seconds"],
                          "peak_rss": node.peak_rss, "answer_rows": rows, "state_bytes": state}


def create_streams(node):
    for statement in (FOLDER / "streams.sql").read_text().split(";"):
        if statement.strip():
            node.sql(statement)


def check_view(node, view, fed, events):
    """Fails unless the view took in all that it was fed, and refused none of it."""
    taken, refused, error = node.sql(f"SELECT rows_in, refused_rows, last_error FROM system.views WHERE name = '{view}'")[0]
    if int(taken) < fed or int(refused) > 0 or error:
        raise RuntimeError(f"{view} took in {taken} rows of {fed}, refused {refused}: {error}")


def long_enough(figures, events):
    """The events of a run of Flink that was too short beside its start-up."""
    start_up, run = figures["start_up_s"], figures["run_s"][0]
    rate = events / max(run - start_up, 0.1 * run)
    return next((size for size in SIZES if size >= 2.5 * start_up * rate), MOST)


class Peer:
    """Flink's figures: measured beside ours, or from a file of figures that this machine took before."""

    def __init__(self, options, work, report):
        self.options, self.report, self.path = options, report, options.flink_figures
        self.kept = self._load()
        self.states, self.running = list(BARS), {}
        self.folder, self.failed = work / "flink", {}
        self.folder.mkdir()

    def _load(self):
        if self.path and self.path.exists():
            content = json.loads(self.path.read_text())
            if content["cpu"] == self.report.machine["cpu"]:
                return content["rates"]
        return {}

    def rate(self, query, state, events):
        """Events a second of one more run, or None where Flink has none."""
        key = f"{query} {state} {events}"
        if key in self.kept and len(self.kept[key]) >= self.options.rounds:
            return statistics.median(self.kept[key])
        if query == "q6" or self.options.no_flink or (query, state) in self.failed:
            return None
        figures = self._run(query, state, events)
        self.report.keep("flink", figures)
        if "events_per_second" not in figures:
            print(f"  Flink, {state}, {query}: {figures['error'][-200:]}", flush=True)
            self.failed[query, state] = True
            return None
        self.kept.setdefault(key, []).append(figures["events_per_second"])
        self._save()
        return figures["events_per_second"]

    def _run(self, query, state, events):
        """A run that is long enough beside Flink's start-up, with more events if it must be."""
        try:
            if state not in self.running:
                self.running[state] = Flink(self.options.binaries, self.folder, state, self.options.flink_heap_gb)
        except Unavailable as error:
            self.report.skipped(f"Flink, {state}", str(error))
            self.states = [s for s in self.states if s != state]
            return {"error": str(error)}
        while True:
            figures = self.running[state].run(query, events)
            if self.options.quick or "too short" not in figures.get("error", "") or events >= MOST:
                return figures
            events = min(MOST, max(2 * events, long_enough(figures, events)))

    def _save(self):
        if self.path:
            content = {"cpu": self.report.machine["cpu"], "rates": self.kept}
            self.path.write_text(json.dumps(content, indent=1) + "\n")

    def close(self):
        for flink in self.running.values():
            flink.close()
        shutil.rmtree(self.folder, ignore_errors=True)
