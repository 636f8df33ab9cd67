"""Owns a store of Azure for tests: azurite on a free loopback port, with the container `lake`.

    python azure.py PROGRAM     starts azurite-blob and prints the store's address

It ends, and the program with it, when its standard input does.
"""
import base64
import datetime
import hashlib
import hmac
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time

CONTAINER = "lake"
# What every azurite has for its account.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PATIENCE_S = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def azure(program, port, folder):
    """azurite's command, and how its container is made."""
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder, "--silent",
               "--skipApiVersionCheck", "--disableTelemetry"]
    path = f"/{ACCOUNT}/{CONTAINER}"

    def make():
        date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
        named = "".join(f"{name}:{value}\n" for name, value in headers.items())
        text = "PUT" + "\n" * 12 + named + f"/{ACCOUNT}{path}\nrestype:container"
        signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
        return request(port, "PUT", f"{path}?restype=container", b"", headers)

    return command, make, f"http://127.0.0.1:{port}/{ACCOUNT}"


def request(port, method, path, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def made(server, make):
    """Waits for the server and makes its container."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return make()
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        command, make, address = azure(program, free_port(), folder)
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        try:
            status, body = made(server, make)
            assert status in (200, 201), f"the container is not made: {status} {body}"
            print(address, flush=True)
            sys.stdin.read()
        finally:
            server.kill()
            server.wait()


main()
