"""Owns an S3 for tests: moto behind a lock, so that conditional puts are as atomic as S3's, with trouble on demand.

Prints its address, and ends when its standard input does: whoever started it need not live to stop it.

    POST /_trouble?status=503&times=3   the next three requests are answered with 503
    GET  /_keys                         the access keys that requests were signed with, one a line
    GET  /_credentials                  keys, as a container's credentials endpoint gives them
    GET  /latest/meta-data/iam/…        keys, as the metadata of an instance with a role give them
"""
import json
import logging
import os
import sys
import threading
from urllib.parse import parse_qs

os.environ.setdefault("S3_UPLOAD_PART_MIN_SIZE", "1")  # tests write parts smaller than S3 takes

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ROLES = "/latest/meta-data/iam/security-credentials/"


class Handler(MotoRequestHandler):
    """Keeps connections open, as S3 does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True


class Server:
    """The application."""

    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.Lock()
        self.trouble, self.status, self.keys = 0, 503, set()

    def __call__(self, environ, start_response):
        path = environ.get("PATH_INFO", "")
        if path.startswith(("/_", "/latest/")):
            return self.control(path, environ, start_response)
        signature = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2]
        with self.lock:
            self.keys.add(signature.partition("/")[0] or "none")
            if self.trouble > 0:
                self.trouble -= 1
                return refuse(self.status, environ, start_response)
            return list(self.moto(environ, start_response))

    def control(self, path, environ, start_response):
        query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        body = ""
        with self.lock:
            if path == "/_trouble":
                self.status, self.trouble = int(query["status"]), int(query["times"])
            elif path == "/_keys":
                body = "\n".join(sorted(self.keys))
            elif path == "/_credentials":
                body = credentials("from-container")
            elif path == "/latest/api/token":
                body = "token"
            elif path == ROLES:
                body = "role"
            elif path == ROLES + "role" and environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN") == "token":
                body = credentials("from-instance")
        start_response("200 OK", [("Content-Length", str(len(body))), ("Content-Type", "application/json")])
        return [body.encode()]


def credentials(key):
    return json.dumps({"AccessKeyId": key, "SecretAccessKey": "secret", "Token": "token",
                       "Expiration": "2100-01-01T00:00:00Z"})


def refuse(status, environ, start_response):
    """Answers without moto; the body is read so that the connection can be used again."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    start_response(f"{status} Trouble", [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
    return [body]


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = make_server("127.0.0.1", port, Server(), threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("http://{}:{}".format(*server.server_address[:2]), flush=True)
    sys.stdin.read()
    os._exit(0)


main()
