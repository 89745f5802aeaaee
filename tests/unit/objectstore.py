"""An object store that speaks enough of S3 for pyarrow: an object is seen once it was sent whole, and folders are names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"


class Objects(ThreadingHTTPServer):
    """`held` are objects by key, `refused` methods and keys that were asked for in vain: nothing here is ever deleted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.held: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.refused: list[str] = []

    @property
    def url(self) -> str:
        """Of a dataset in it."""
        where = f"endpoint_override=127.0.0.1:{self.server_port}&scheme=http&region=us-east-1"
        return f"s3://key:secret@{BUCKET}/fleet?{where}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Objects

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def _asked(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix(f"/{BUCKET}").lstrip("/")
        return key, {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            sent = b"".join(iter(self._chunk, b""))
        else:
            sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        return unsigned(sent) if "aws-chunked" in self.headers.get("Content-Encoding", "") else sent

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        read = self.rfile.read(size)
        self.rfile.readline()
        return read

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        key, asked = self._asked()
        body = self._body()
        if "uploadId" in asked:
            self.server.parts[asked["uploadId"]][int(asked["partNumber"])] = body
        else:
            self.server.held[key] = body
        self._answer(200, ETag='"x"')

    def do_POST(self) -> None:
        key, asked = self._asked()
        self._body()
        if "uploads" in asked:
            number = str(len(self.server.parts))
            self.server.parts[number] = {}
            self._xml(f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>")
        elif "uploadId" in asked:
            parts = self.server.parts[asked["uploadId"]]
            self.server.held[key] = b"".join(parts[at] for at in sorted(parts))
            self._xml('<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>')
        else:
            self._refuse()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        key, asked = self._asked()
        if not key:
            self._list(asked.get("prefix", ""), asked.get("delimiter", ""))
        elif key not in self.server.held:
            self._answer(404)
        else:
            self._send(self.server.held[key])

    def _send(self, content: bytes) -> None:
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        first, _, last = wanted.partition("-")
        part = content[int(first) : int(last) + 1] if wanted else content
        more = {"Content_Range": f"bytes {first}-{last}/{len(content)}"} if wanted else {}
        self._answer(206 if wanted else 200, part, ETag='"x"', Last_Modified="Thu, 26 Nov 2026 00:00:00 GMT", **more)

    def _list(self, prefix: str, delimiter: str) -> None:
        folders, files = set(), []
        for key, content in sorted(self.server.held.items()):
            if key.startswith(prefix):
                name, slash, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
                if slash:
                    folders.add(prefix + name + slash)
                else:
                    files.append((key, len(content)))
        self._xml(
            f"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>{len(files) + len(folders)}</KeyCount>"
            + "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size>"
                "<LastModified>2026-11-26T00:00:00.000Z</LastModified></Contents>"
                for key, size in files
            )
            + "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders))
            + "</ListBucketResult>"
        )

    def do_DELETE(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        self.server.refused.append(f"{self.command} {self.path}")
        self._answer(403)

    def _xml(self, body: str) -> None:
        self._answer(200, f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode(), Content_Type="application/xml")


def unsigned(sent: bytes) -> bytes:
    """What was sent in signed chunks: SIZE;chunk-signature=..., the bytes, and so on until a size of 0."""
    made = []
    while True:
        head, _, sent = sent.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        if not size:
            return b"".join(made)
        made.append(sent[:size])
        sent = sent[size + 2 :]


@contextmanager
def serving() -> Iterator[Objects]:
    """Until the block ends."""
    with Objects() as objects:
        thread = threading.Thread(target=objects.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield objects
        finally:
            objects.shutdown()
            thread.join()
