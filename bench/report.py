"""Owns the report: figures, their bars, and how both are printed and kept."""
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess


def machine():
    """What the figures were taken on."""
    def field(path, name):
        try:
            with open(path) as f:
                return next((line.split(":", 1)[1].strip() for line in f if line.startswith(name)), "")
        except OSError:
            return ""

    memory = re.sub(r"\D", "", field("/proc/meminfo", "MemTotal")) or "0"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            cwd=os.path.dirname(os.path.abspath(__file__))).stdout.strip()
    return {
        "cpu": field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 2**20, 1),
        "kernel": platform.release(),
        "commit": commit,
    }


class Report:
    """Figures by name, each with the bar it must reach, if it has one."""

    def __init__(self, machine, when, options):
        self.machine, self.when = machine, when
        # Where files lie on the machine is nobody else's business.
        self.options = {k: str(v) for k, v in options.items() if not isinstance(v, pathlib.Path)}
        self.lines, self.raw = [], {}

    def add(self, name, values, unit, at_least=None, below=None, note=""):
        """A figure: the median of `values`."""
        values = values if isinstance(values, list) else [values]
        value = statistics.median(values)
        bar = f"≥ {shown(at_least, unit)}" if at_least is not None else f"< {shown(below, unit)}" if below is not None else ""
        passed = None
        if at_least is not None:
            passed = value >= at_least
        elif below is not None:
            passed = value < below
        line = {"name": name, "value": value, "values": values, "unit": unit, "bar": bar, "passed": passed, "note": note}
        self.lines.append(line)
        print(f"  {name}: {shown(value, unit)} {unit} {note}", flush=True)
        return value

    def keep(self, name, figures):
        """Raw figures, for the JSON file alone."""
        self.raw.setdefault(name, []).append(figures)

    def failed(self, name, error):
        """A measurement that did not end."""
        note = f"{type(error).__name__}: {error}"
        self.lines.append({"name": name, "value": None, "values": [], "unit": "", "bar": "", "passed": False, "note": note})

    def skipped(self, name, why):
        """A measurement that cannot be made here."""
        self.lines.append({"name": name, "value": None, "values": [], "unit": "", "bar": "", "passed": None,
                           "note": f"SKIPPED: {why}"})

    def all_pass(self):
        return all(line["passed"] is not False for line in self.lines)

    def rows(self):
        for line in self.lines:
            verdict = {True: "pass", False: "MISS", None: ""}[line["passed"]]
            value = "" if line["value"] is None else shown(line["value"], line["unit"])
            yield [line["name"], value, line["unit"], line["bar"], verdict, line["note"]]

    def table(self):
        """Aligned columns for a terminal."""
        rows = [["measurement", "median", "unit", "bar", "", "note"], *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        text = []
        for row in rows:
            cells = [row[i].rjust(widths[i]) if i in (1, 3) else row[i].ljust(widths[i]) for i in range(5)]
            text.append("  ".join([*cells, row[5]]).rstrip())
        return "\n".join(text)

    def write(self, folder, whole):
        """Writes the JSON and Markdown files; gives back the path without its ending."""
        cpu = re.sub(r"[^a-z0-9]+", "-", self.machine["cpu"].lower()).strip("-")[:30] or "machine"
        name = f"{self.when:%Y-%m-%d}-{self.machine['cores']}x-{cpu}" + ("" if whole else "-partial")
        folder.mkdir(parents=True, exist_ok=True)
        content = {"when": self.when.isoformat(timespec="seconds"), "machine": self.machine, "options": self.options,
                   "figures": self.lines, "raw": self.raw}
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        m = self.machine
        head = [f"# Benchmarks of {self.when:%Y-%m-%d %H:%M}", "",
                f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, Linux {m['kernel']}, commit {m['commit']}. "
                f"Load generator and peers share the cores. Medians of {self.options['rounds']} rounds.", "",
                "| measurement | median | unit | bar | | note |", "| --- | ---: | --- | ---: | --- | --- |"]
        body = ["| " + " | ".join(row) + " |" for row in self.rows()]
        (folder / f"{name}.md").write_text("\n".join(head + body) + "\n")
        return folder / name


def shown(value, unit):
    """A number with as many digits as it deserves."""
    if unit in ("×", "ms", "s") or abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:,.0f}"
