"""Owns the servers that views are compared with: Apache Flink and PostgreSQL."""
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from processes import pgbench

HERE = pathlib.Path(__file__).resolve().parent


class Unavailable(Exception):
    """A program that is not installed here."""


class Flink:
    """Apache Flink with one kind of state, in a process that takes one query after the other."""

    def __init__(self, binaries, work, state, heap_gb):
        if not shutil.which("java"):
            raise Unavailable("Java is not installed: apt install openjdk-17-jre-headless")
        self.state = state
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")).resolve()
        command = [sys.executable, HERE / "flink_nexmark.py", "--binary", binaries / "millstream-nexmark", "--work", work,
                   "--venv", target / "flink-venv", "--states", state, "--heap-gb", str(heap_gb), "--serve"]
        self.errors = open(pathlib.Path(work).parent / f"flink-{state}.log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, start_new_session=True)
        try:
            self._line()
        except RuntimeError as error:
            raise Unavailable(f"{error}: {pathlib.Path(self.errors.name).read_text(errors='replace')[-300:]}") from error

    def _line(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.close()
        raise RuntimeError(f"Flink ended with {self.process.returncode}")

    def run(self, query, events):
        """The figures of one run over so many events."""
        self.process.stdin.write(json.dumps({"query": query, "events": events}) + "\n")
        self.process.stdin.flush()
        return self._line()

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.errors.close()


class Postgres:
    """A fresh PostgreSQL with pgbench's tables; on the loopback interface, trusting everybody."""

    def __init__(self, port, scale):
        self.port, self.keys = str(port), scale * 100_000
        initdb, server, self.pgbench = (self._program(name) for name in ("initdb", "postgres", "pgbench"))
        # The server refuses to run as root, and its user must reach the folder.
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="millstream-bench-", dir="/var/tmp"))
        if self.user:
            shutil.chown(self.folder, "postgres", "postgres")
        self._run([initdb, "-D", self.folder / "data", "-A", "trust", "-U", "bench"], **self.user, cwd=self.folder)
        command = [server, "-D", self.folder / "data", "-p", self.port, "-k", self.folder, "-c", "shared_buffers=1GB",
                   "-c", "listen_addresses=127.0.0.1"]
        self.output = open(self.folder.with_suffix(".log"), "wb")
        self.process = subprocess.Popen(command, stdout=self.output, stderr=self.output, cwd=self.folder, **self.user)
        try:
            self._fill(scale)
        except Exception:
            self.close()
            raise

    @staticmethod
    def _program(name):
        installed = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
        found = shutil.which(name) or (installed[-1] if installed else None)
        if not found:
            raise Unavailable(f"{name} is not installed: apt install postgresql postgresql-contrib")
        return found

    @staticmethod
    def _run(command, **options):
        done = subprocess.run(command, capture_output=True, text=True, **options)
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-600:]}")
        return done.stdout

    def _fill(self, scale):
        began = time.monotonic()
        while True:
            try:
                # It fails until the server listens.
                self._run([self.pgbench, *self._where(), "-i", "-s", str(scale), "-q", "postgres"])
                return
            except RuntimeError:
                if self.process.poll() is not None or time.monotonic() - began > 60:
                    raise
                time.sleep(0.1)

    def _where(self):
        return ["-h", "127.0.0.1", "-p", self.port, "-U", "bench"]

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def reads_per_s(self, seconds):
        """pgbench's own rate of point reads over 16 connections."""
        text = self._run([self.pgbench, *self._where(), "-S", "-c", "16", "-j", "2", "-M", "prepared", "-n",
                          "-T", str(max(1, round(seconds))), "postgres"])
        return float(re.search(r"^tps = ([0-9.]+)", text, re.MULTILINE).group(1))

    def script_per_s(self, script, seconds):
        """pgbench's own rate of a script's runs over 16 connections."""
        return pgbench(self.address, script, seconds, self.pgbench)["per_s"]

    def sql(self, statement):
        """Runs a statement, by a script of one transaction."""
        script = self.folder / "statement.sql"
        script.write_text(statement + "\n")
        self._run([self.pgbench, *self._where(), "-n", "-f", script, "-t", "1", "postgres"])

    def close(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.output.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".log").unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
