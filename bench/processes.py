"""Owns the processes of a measurement: the node, the load generator, plain DataFusion, Redis."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

PATIENCE_S = 600
# A connection that was not used for so long is opened again.
IDLE_S = 5


class Node:
    """A running `millstream serve`; its highest resident memory is watched."""

    def __init__(self, binaries, data, **variables):
        self.binaries, self.data = binaries, pathlib.Path(data)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MILLSTREAM_")}
        environment |= {"MILLSTREAM_" + k.upper(): str(v) for k, v in variables.items()}
        address_file = self.data / "millstream.addr"
        address_file.unlink(missing_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        self.output = open(self.data.parent / "node.log", "ab")
        began = time.perf_counter()
        command = [binaries / "millstream", "serve", "--data", self.data, "--listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, env=environment, stdout=self.output, stderr=self.output)
        self.address = self._wait(began, address_file)
        self.start_s = time.perf_counter() - began
        self.peak_rss = 0
        self.watching = True
        threading.Thread(target=self._watch, daemon=True).start()

    def _wait(self, began, address_file):
        address = None
        while time.perf_counter() - began < PATIENCE_S:
            if self.process.poll() is not None:
                raise RuntimeError(f"the node ended with {self.process.returncode}; see {self.output.name}")
            if address is None and address_file.exists():
                addresses = json.loads(address_file.read_text())
                address, self.pg_address = addresses["http"], addresses["pg"]
            if address is not None and self._ready(address):
                return address
            time.sleep(0.001)
        raise RuntimeError(f"the node is not ready after {PATIENCE_S} s")

    @staticmethod
    def _ready(address):
        try:
            connection = http.client.HTTPConnection(address, timeout=10)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def _watch(self):
        while self.watching and self.process.poll() is None:
            self.peak_rss = max(self.peak_rss, self.rss())
            time.sleep(0.05)

    def rss(self):
        """Resident bytes."""
        try:
            with open(f"/proc/{self.process.pid}/status") as f:
                return next((int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS")), 0)
        except OSError:
            return 0

    def sql(self, statement):
        """The rows of an answer."""
        reply = self._post("/v1/sql", json.dumps({"sql": statement}), "application/json", statement)
        return reply.get("rows", [])

    def append(self, stream, rows):
        """Appends rows, each a dictionary."""
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        reply = self._post(f"/v1/streams/{stream}", lines, "application/x-ndjson", stream)
        if reply["accepted"] != len(rows):
            raise RuntimeError(f"{stream}: {reply}")

    def _post(self, path, body, content_type, what):
        # The node closes connections that say nothing for a while.
        if time.perf_counter() - getattr(self, "spoken", -IDLE_S) >= IDLE_S:
            self.connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        self.connection.request("POST", path, body, {"content-type": content_type, "accept": "application/json"})
        reply = self.connection.getresponse()
        text = reply.read()
        self.spoken = time.perf_counter()
        if reply.status != 200:
            raise RuntimeError(f"{what[:200]}: {reply.status} {text.decode(errors='replace')}")
        return json.loads(text or b"{}")

    def query(self, statement):
        """Milliseconds from the question to the answer, over HTTP."""
        began = time.perf_counter()
        self.sql(statement)
        return (time.perf_counter() - began) * 1000

    def create(self, stream, partitions=1):
        self.sql(f"CREATE STREAM {stream} (user_id BIGINT, event TEXT, url TEXT, price DOUBLE, ts TIMESTAMPTZ) "
                 f"WITH (partitions = {partitions})")

    def figure(self, stream, column):
        """A column of system.streams."""
        return int(self.sql(f"SELECT {column} FROM system.streams WHERE name = '{stream}'")[0][0])

    def wait_for_lake(self, stream):
        """Waits until every row is in the lake; gives back the seconds."""
        began = time.perf_counter()
        while self.figure(stream, "lag_rows") > 0:
            if time.perf_counter() - began > PATIENCE_S:
                raise RuntimeError("the lake does not catch up")
            time.sleep(0.1)
        return time.perf_counter() - began

    def kill(self):
        self._end(signal.SIGKILL)

    def stop(self):
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number):
        self.watching = False
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self.output.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def generator(binaries, command, **options):
    """Runs the load generator; its figures."""
    words = [str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    done = subprocess.run([binaries / "millstream-bench", command, *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout.splitlines()[-1])


def pgbench(address, script, seconds, program="pgbench", user="bench", database="postgres"):
    """A script over 16 connections, its statements prepared: runs a second, and how many failed."""
    host, port = address.rsplit(":", 1)
    command = [program, "-h", host, "-p", port, "-U", user, "-n", "-f", script, "-c", "16", "-j", "2", "-M", "prepared",
               "-T", str(max(1, round(seconds))), database]
    done = subprocess.run(command, capture_output=True, text=True)
    rate = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    aborted = re.search(r"client \d+ .*(aborted|failed).*", done.stderr)
    if done.returncode != 0 or rate is None or aborted:
        raise RuntimeError(f"pgbench: {done.stderr.strip()[-600:]}")
    return {"per_s": float(rate.group(1))}


class Plain:
    """Plain DataFusion on Parquet files, in a process of its own."""

    def __init__(self, binaries, files):
        command = [binaries / "millstream-bench", "plain", "--files", ",".join(str(f) for f in files)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("plain DataFusion ended")
        return json.loads(line)

    def query(self, sql):
        """Milliseconds from the question to the answer, over the pipe."""
        began = time.perf_counter()
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()
        self._line()
        return (time.perf_counter() - began) * 1000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Redis:
    """A fresh redis-server with fsync on every write."""

    def __init__(self, work, port):
        self.port = str(port)
        folder = pathlib.Path(work) / "redis"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = ["redis-server", "--bind", "127.0.0.1", "--port", self.port, "--dir", str(folder), "--save", "",
                   "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while b"PONG" not in subprocess.run(["redis-cli", "-p", self.port, "ping"], capture_output=True).stdout:
            if self.process.poll() is not None:
                raise RuntimeError("redis-server ended")
            time.sleep(0.05)

    def xadd_per_s(self, event, requests):
        """4 clients, 1,000 XADDs in flight each."""
        done = subprocess.run(["redis-benchmark", "-h", "127.0.0.1", "-p", self.port, "-c", "4", "-n", str(requests),
                               "-P", "1000", "-q", "XADD", "s", "*", "d", event], capture_output=True, text=True, check=True)
        length = subprocess.run(["redis-cli", "-p", self.port, "xlen", "s"], capture_output=True, text=True).stdout
        if int(length) < requests:
            raise RuntimeError(f"redis kept {length.strip()} of {requests} entries")
        last = done.stdout.replace("\r", "\n").strip().splitlines()[-1]
        return float(last.split("requests per second")[0].split(":")[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def active_files(table):
    """The Parquet files of a Delta table's newest version, by its commits; none may have been cleaned up."""
    files = set()
    commits = sorted((pathlib.Path(table) / "_delta_log").glob("[0-9]*.json"))
    if not commits or int(commits[0].stem) != 0:
        raise RuntimeError(f"{table} has no whole history of commits")
    for commit in commits:
        for line in commit.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                files.add(action["add"]["path"])
            if "remove" in action:
                files.discard(action["remove"]["path"])
    return [pathlib.Path(table) / f for f in sorted(files)]
