"""Owns a store with Google Cloud's XML API for tests, in memory: objects with generations, preconditions, ranges, lists in
pages, uploads in parts. fake-gcs-server knows the JSON API's uploads alone.

    python google.py        prints its address; ends when its standard input does
"""
import email.utils
import hashlib
import http.server
import os
import re
import sys
import threading
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 100


class Store:
    """Objects by bucket and name: content, generation, time."""

    def __init__(self):
        self.lock, self.objects, self.uploads, self.generation = threading.Lock(), {}, {}, 0

    def put(self, key, content):
        self.generation += 1
        self.objects[key] = (content, self.generation, email.utils.formatdate(usegmt=True))
        return self.objects[key]


def tag(content):
    return '"' + hashlib.md5(content).hexdigest() + '"'


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps connections open, as Google's does."""

    protocol_version = "HTTP/1.1"
    store = Store()

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        bucket, _, name = url.path.lstrip("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        with self.store.lock:
            getattr(self, self.command.lower())(bucket, unquote(name), query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def get(self, bucket, name, query, _):
        if not name:
            return self.list(bucket, query)
        found = self.store.objects.get((bucket, name))
        if found is None:
            return self.answer(404)
        content, generation, time = found
        facts = {"ETag": tag(content), "Last_Modified": time, "x_goog_generation": generation}
        if self.headers.get("If-Match") not in (None, facts["ETag"]):
            return self.answer(412)
        if self.headers.get("If-None-Match") == facts["ETag"]:
            return self.answer(304)
        part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if part is None:
            return self.answer(200, content, Content_Length=len(content), **facts)
        first, last = part.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        end = min(len(content), int(last) + 1) if first and last else len(content)
        if start >= len(content):
            return self.answer(416)
        place = f"bytes {start}-{end - 1}/{len(content)}"
        return self.answer(206, content[start:end], Content_Length=end - start, Content_Range=place, **facts)

    head = get

    def list(self, bucket, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after") or ""
        names = sorted(n for b, n in self.store.objects if b == bucket and n.startswith(prefix) and n > after)
        page, folders = [], {}
        for name in names:
            if delimiter and delimiter in name[len(prefix):]:
                folders[prefix + name[len(prefix):].split(delimiter)[0] + delimiter] = None
            else:
                page.append(name)
            if len(page) == PAGE:
                break
        more = page and len(page) == PAGE and page[-1] != names[-1]
        text = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(tag(self.store.objects[bucket, name][0]))}</ETag>"
            f"<Size>{len(self.store.objects[bucket, name][0])}</Size></Contents>" for name in page)
        text += "".join(f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders)
        text += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        self.answer(200, f"<ListBucketResult>{text}</ListBucketResult>".encode(), Content_Type="application/xml")

    def put(self, bucket, name, query, body):
        if "uploadId" in query:
            self.store.uploads[query["uploadId"]][int(query["partNumber"])] = body
            return self.answer(200, ETag=tag(body))
        wanted = self.headers.get("x-goog-if-generation-match")
        found = self.store.objects.get((bucket, name))
        if wanted is not None and int(wanted) != (found[1] if found else 0):
            return self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        if source := self.headers.get("x-goog-copy-source"):
            there = self.store.objects.get(tuple(unquote(source).lstrip("/").split("/", 1)))
            if there is None:
                return self.answer(404)
            body = there[0]
        _, generation, _ = self.store.put((bucket, name), body)
        return self.answer(200, ETag=tag(body), x_goog_generation=generation)

    def post(self, bucket, name, query, body):
        if "uploads" in query:
            number = f"upload-{len(self.store.uploads)}"
            self.store.uploads[number] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, text.encode())
        parts = self.store.uploads.pop(query["uploadId"])
        numbers = [int(n) for n in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        content = b"".join(parts[number] for number in numbers)
        _, generation, _ = self.store.put((bucket, name), content)
        text = f"<CompleteMultipartUploadResult><ETag>{escape(tag(content))}</ETag></CompleteMultipartUploadResult>"
        return self.answer(200, text.encode(), x_goog_generation=generation)

    def delete(self, bucket, name, query, _):
        if "uploadId" in query:
            self.store.uploads.pop(query["uploadId"], None)
            return self.answer(204)
        gone = self.store.objects.pop((bucket, name), None)
        return self.answer(204 if gone else 404)

    def log_message(self, *_):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("http://{}:{}".format(*server.server_address[:2]), flush=True)
    sys.stdin.read()
    os._exit(0)


main()
