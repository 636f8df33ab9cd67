"""Owns what the tests share: the binary, a node for a module, a node of one's own."""
import os
import pathlib
import shutil
import subprocess

import pytest

from node import Node

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def binary():
    """The binary under test."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = pathlib.Path(os.environ.get("MILLSTREAM_BIN", target / "debug" / "millstream"))
    if not path.exists():
        pytest.fail(f"{path} is not there: cargo build -p millstream, or set MILLSTREAM_BIN")
    return path


@pytest.fixture
def start(binary, tmp_path):
    """Starts nodes on the test's own folder; kills them at its end."""
    nodes = []

    def start_node(folder=tmp_path, **variables):
        nodes.append(Node(binary, folder, **variables))
        return nodes[-1]

    yield start_node
    for node in nodes:
        node.kill()


@pytest.fixture(scope="module")
def node(binary, tmp_path_factory):
    """A node with a stream of flights in its log, shared by a module's tests."""
    node = Node(binary, tmp_path_factory.mktemp("node"), MILLSTREAM_TIER_AGE="10h")
    node.sql(
        "CREATE STREAM flights (id BIGINT NOT NULL, carrier TEXT, delay DOUBLE PRECISION, departed TIMESTAMPTZ, "
        "cancelled BOOLEAN)"
    )
    node.sql("COMMENT ON STREAM flights IS 'departures'")
    node.ingest("flights", [
        {"id": 1, "carrier": "UA", "delay": 2.5, "departed": "2013-01-01T05:15:00Z", "cancelled": False},
        {"id": 2, "carrier": "AA", "delay": -1.0, "departed": "2013-01-01T05:29:00Z", "cancelled": False},
        {"id": 3, "carrier": None, "delay": None, "departed": None, "cancelled": True},
        {"id": 4, "carrier": "O'Hare \"x\", é", "delay": 0.125, "departed": "2013-06-30T23:59:59.999999Z", "cancelled": None},
    ])
    yield node
    node.kill()


def tool(name):
    """A program of the machine, or a skip that names it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command, **options):
    """A finished program's exit status, output and errors."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    return done.returncode, done.stdout, done.stderr
