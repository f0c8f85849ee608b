"""An application under the reference validator: any violation of PEP 3333 on either side causes a 500."""

from wsgiref.validate import validator


class Closing:
    def __init__(self, pieces):
        self.pieces = iter(pieces)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.pieces)

    def close(self):
        pass


@validator
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    stream = environ["wsgi.input"]
    body = b""
    if path == "/lines":
        body = b"".join(iter(lambda: stream.readline(), b""))
    elif path == "/iterate":
        body = b"".join(stream)
    elif environ.get("CONTENT_LENGTH"):
        body = stream.read(int(environ["CONTENT_LENGTH"]))
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    pieces = [environ["REQUEST_METHOD"].encode(), b" ", str(len(body)).encode()]
    if path == "/length":
        headers.append(("Content-Length", str(sum(map(len, pieces)))))
    write = start_response("200 OK", headers)
    if path == "/write":
        write(b"written ")
    if path == "/close":
        return Closing(pieces)
    if path == "/generator":
        return (piece for piece in pieces)
    return pieces
