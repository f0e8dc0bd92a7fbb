"""A server on 127.0.0.1 that speaks as much of the Hugging Face hub's protocol as its client needs, and plays faults."""

import contextlib
import hashlib
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

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

    def do_CONNECT(self):  # what a proxy is asked for
        self.server.requests.append((self.command, self.path))
        self.answer(self.server.fault)

    def do_GET(self):
        server = self.server
        self.path = urlsplit(self.path).path  # as a proxy, it is sent whole addresses
        server.requests.append((self.command, self.path))
        fault = server.fault
        if fault == "silent":
            server.closed.wait(60)
        elif fault == "trickles headers":  # never a second without a byte, never an answer
            with contextlib.suppress(ConnectionError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
                for _ in range(200):
                    self.wfile.write(b"x")
                    server.closed.wait(0.1)
        elif fault == "no HTTP":
            self.wfile.write(b"220 mail.example.org ESMTP\r\n")
            self.close_connection = True
        elif fault == "log-in page":
            self.answer(200, b"<html>Welcome to the hotel</html>", Content_Type="text/html")
        elif fault == "expired token" and "Authorization" in self.headers:
            self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
        elif isinstance(fault, tuple) and fault[0] in self.path:
            _, status, headers = fault
            self.answer(status, **headers)
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
        digest = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()  # as git names a file
        headers = {"ETag": f'"{digest}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        if name.endswith(".safetensors"):
            headers |= {"X_Linked_Etag": f'"{hashlib.sha256(body).hexdigest()}"', "X_Linked_Size": len(body)}
            if self.server.store_elsewhere:
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
            server.closed.wait(60)
        elif fault == "cut always" or fault == "cut once" and not server.was_cut:
            server.was_cut = True
            self.answer(status, rest, send=rest[: len(rest) // 2] if fault == "cut once" else b"", **headers)
            self.close_connection = True
        elif fault == "trickles":
            self.answer(status, rest, send=b"", **headers)
            began = time.monotonic()
            for chunk in range(0, len(rest), len(rest) // 10):
                server.trickled = time.monotonic() - began
                self.wfile.write(rest[chunk : chunk + len(rest) // 10])
                time.sleep(0.9)
        else:
            self.answer(status, rest, **headers)


@contextlib.contextmanager
def serve(files, fault=None, store_elsewhere=False, certificate=None):
    """`files`: {name: bytes}; `certificate`: a PEM file with its key, for https.

    -> the server; its `fault` can be changed, its `requests` be read, its address is `url`.
    A fault is a name, or (part of a path, status, headers); for CONNECT a status.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that goes away is what many of these tests are about
    server.files, server.fault, server.requests, server.was_cut = dict(files), fault, [], False
    server.store_elsewhere, server.closed = store_elsewhere, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake in the thread of the request: one that breaks it off must not end the server.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.url = f"https://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.closed.set()
        server.shutdown()
        server.server_close()
