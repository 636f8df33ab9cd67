"""Owns a running node: its folder, its ports, plain HTTP to it."""
import http.client
import json
import os
import pathlib
import signal
import subprocess
import time

PATIENCE_S = 60

# Rows reach the lake, and files are merged, within a second.
RESTLESS = {
    "MILLSTREAM_TIER_AGE": "200ms",
    "MILLSTREAM_TIER_BYTES": "65536",
    "MILLSTREAM_MAINTENANCE_INTERVAL": "500ms",
    "MILLSTREAM_VACUUM_RETENTION": "60s",
}


def poll(what, ask, seconds=PATIENCE_S):
    """Asks until the answer is not None, or fails naming what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


class Refused(Exception):
    """An answer that is not a success."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Node:
    """A running `millstream serve`."""

    def __init__(self, binary, folder, **variables):
        self.folder = pathlib.Path(folder)
        self.data, self.log = self.folder / "data", self.folder / "node.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MILLSTREAM_", "AWS_", "PG"))}
        command = [str(binary), "serve", "--data", str(self.data), "--listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0"]
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(command, env=environment | variables, stdout=output, stderr=output)
        addresses = json.loads(poll("the node's addresses", self._addresses))
        self.http, self.pg = addresses["http"], addresses["pg"]
        self.pg_host, self.pg_port = self.pg.rsplit(":", 1)
        poll("the node to be ready", lambda: self.get("/readyz")[0] == 200 or None)

    def _addresses(self):
        assert self.process.poll() is None, f"the node ended:\n{self.log.read_text()}"
        file = self.data / "millstream.addr"
        try:
            # A killed node's file is replaced by the next one's, which has its own process number in it.
            text = file.read_text()
            return text if json.loads(text)["pid"] == self.process.pid else None
        except (FileNotFoundError, ValueError):
            return None

    @property
    def dsn(self):
        """How PostgreSQL clients find it."""
        return f"host={self.pg_host} port={self.pg_port} user=tester dbname=millstream"

    @property
    def lake(self):
        """Where the tables lie by default."""
        return self.data / "lake" / "public"

    def request(self, method, path, body=None, headers=None):
        """Status, headers and body of any reply."""
        connection = http.client.HTTPConnection(self.http, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def sql(self, statement, accept="application/json"):
        """The rows of an answer, or its bytes when it is not JSON."""
        headers = {"content-type": "application/json", "accept": accept}
        status, _, body = self.request("POST", "/v1/sql", json.dumps({"sql": statement}), headers)
        if status != 200:
            raise Refused(status, body.decode())
        if accept != "application/json":
            return body
        answer = json.loads(body)
        if "error" in answer:
            raise Refused(status, body.decode())
        return answer.get("rows", [])

    def ingest(self, stream, rows, **headers):
        """Sends rows as NDJSON; the reply."""
        body = "".join(json.dumps(row) + "\n" for row in rows)
        headers = {"content-type": "application/x-ndjson"} | {k.replace("_", "-"): v for k, v in headers.items()}
        status, _, reply = self.request("POST", f"/v1/streams/{stream}", body, headers)
        if status != 200:
            raise Refused(status, reply.decode())
        return json.loads(reply)

    def wait_for_lake(self, stream):
        """Waits until every row of a stream is in the lake."""
        lag = f"SELECT lag_rows FROM system.streams WHERE name = '{stream}'"
        poll("the lake to catch up", lambda: True if int(self.sql(lag)[0][0]) == 0 else None)

    def wait_for_first_file(self, stream):
        """Waits until a stream's table has rows."""
        files = f"SELECT lake_files FROM system.streams WHERE name = '{stream}'"
        poll("the first file of the lake", lambda: True if int(self.sql(files)[0][0]) > 0 else None)

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)
