"""A loopback HTTP server that can resume, refuse to, and cut connections."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Behaviour:
    """What the server has and how it misbehaves; `requests` records (path, Range).

    With `wrong_start` it continues every file from there, wherever it was asked to.
    With `stall` it says so in `stalled` where it would cut, and waits for `release`.
    """

    def __init__(
        self, files, ranges=True, wrong_start=None, cut_after=None, announce_length=True, stall=False
    ):
        self.files, self.ranges, self.wrong_start = files, ranges, wrong_start
        self.cut_after, self.announce_length = cut_after, announce_length
        self.stall, self.stalled, self.release = stall, threading.Event(), threading.Event()
        self.requests = []


@contextmanager
def serving(behaviour):
    """Yield the address of a server that behaves as told until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            behaviour.requests.append((self.path, wanted))
            body = behaviour.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            start = 0
            if wanted and behaviour.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                if start >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.end_headers()
                    return
                if behaviour.wrong_start is not None:
                    start = behaviour.wrong_start
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            if behaviour.announce_length:
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            stop = len(body) if behaviour.cut_after is None else start + behaviour.cut_after
            self.wfile.write(body[start:stop])
            if behaviour.stall:
                behaviour.stalled.set()
                behaviour.release.wait()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        behaviour.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
