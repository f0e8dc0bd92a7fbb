"""A server on 127.0.0.1 that speaks as much of the Hugging Face hub's protocol as its client needs, and plays faults."""

import contextlib
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", send=None, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if send is None else send)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        server.requests.append((self.command, self.path))
        fault = server.fault
        if fault == "silent":
            time.sleep(60)
        elif fault == "log-in page":
            self.answer(200, b"<html>Welcome to the hotel</html>", Content_Type="text/html")
        elif isinstance(fault, tuple) and (fault[0] == "always" or "/resolve/" in self.path):
            _, status, code = fault
            self.answer(status, **({"X_Error_Code": code} if code else {}))
        elif self.path.startswith("/api/models/"):
            siblings = [{"rfilename": name} for name in server.files]
            revision = self.path.rsplit("/", 1)[1]
            commit = COMMIT if revision == "main" else revision
            self.answer(200, json.dumps({"sha": commit, "siblings": siblings}).encode())
        elif self.path.startswith("/store/"):  # as a signed address: good for one kind of request
            body = server.files[self.path.removeprefix("/store/")]
            self.answer(200, body) if self.command == "GET" else self.answer(403)
        elif "/resolve/" in self.path:
            _, commit, name = self.path.rsplit("/", 2)
            self.send_file(name, commit, fault)
        else:
            self.answer(404)

    def send_file(self, name, commit, fault):
        body = self.server.files[name]
        digest = hashlib.sha256(body).hexdigest()
        headers = {"ETag": f'"{digest}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        if name.endswith(".safetensors"):
            headers |= {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": len(body)}
            if fault == "store elsewhere":
                return self.answer(302, **headers, Location=f"http://localhost:{self.server.server_port}/store/{name}")
            if self.command == "GET":
                return self.send_weights(body, headers, fault)
        self.answer(200, body, **headers)

    def send_weights(self, body, headers, fault):
        server, start = self.server, 0
        if "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        status = 206 if start else 200
        if fault == "wrong bytes":
            self.answer(status, rest, send=bytes(len(rest)), **headers)
        elif fault == "stalls":
            self.answer(status, rest, send=rest[: len(rest) // 2], **headers)
            self.wfile.flush()
            time.sleep(60)
        elif fault == "cut always" or fault == "cut once" and not server.was_cut:
            server.was_cut = True
            self.answer(status, rest, send=rest[: len(rest) // 2] if fault == "cut once" else b"", **headers)
            self.close_connection = True
        elif fault == "trickles":
            self.answer(status, rest, send=b"", **headers)
            for chunk in range(0, len(rest), len(rest) // 10):
                self.wfile.write(rest[chunk : chunk + len(rest) // 10])
                time.sleep(0.9)
        else:
            if fault == "slow":
                time.sleep(2)
            self.answer(status, rest, **headers)


@contextlib.contextmanager
def serve(files, fault=None):
    """`files`: {name: bytes}. -> the server; its `fault` can be changed, its `requests` be read, its address is `url`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.files, server.fault, server.requests, server.was_cut = dict(files), fault, [], False
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
