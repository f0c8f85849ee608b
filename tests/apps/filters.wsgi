"""Responses that show what httpd's filters do. The last part of the path chooses the response."""

import hashlib
import json
import os
import socket

TEXT = ("Content-Type", "text/plain")
PIECES = [b'<!--#set var="x" value="y" -->', *(b"line %d of the text\n" % n for n in range(60))]


def application(environ, start_response):
    form = environ["PATH_INFO"].rpartition("/")[2]
    if form == "body":
        return body(environ, start_response)
    headers = [TEXT]
    for key, name in (("test.sendfile", "X-Sendfile"), ("test.cache", "Cache-Control"), ("test.ranges", "Accept-Ranges")):
        if key in environ:
            headers.append((name, environ[key]))
    if form == "small":
        headers.append(("Content-Length", "10"))
    start_response("200 OK", headers)
    return {"list": lambda: PIECES, "small": lambda: iter([b"0123456789"]), "stream": lambda: iter(PIECES),
            "burst": lambda: burst(environ), "answer": lambda: answer(environ), "endless": endless,
            "many": lambda: many(int(environ["QUERY_STRING"]))}[form]()


def body(environ, start_response):
    """Answers with the received body and its announced length, also for error pages."""
    data = environ["wsgi.input"].read()
    said = {"sum": hashlib.md5(data).hexdigest(), "size": len(data), "told": environ.get("CONTENT_LENGTH"),
            "framing": environ.get("HTTP_TRANSFER_ENCODING")}
    text = json.dumps(said).encode()
    start_response(environ.get("REDIRECT_STATUS", "200") + " Said", [TEXT, ("Content-Length", str(len(text)))])
    return [text]


def burst(environ):
    """Yields three events at once, and the next three when the test releases it."""
    for turn in "a", "b":
        for number in range(3):
            yield f"{turn}{number}\n".encode()
        with socket.create_connection(("127.0.0.1", int(environ["test.gate"]))) as gate:
            gate.sendall(b"burst\n")
            gate.recv(1)


def answer(environ):
    """Sends a question, and waits for the answer of the client."""
    yield b"one"
    yield b"two"
    yield environ["wsgi.input"].read(1)


def endless():
    while True:
        yield os.urandom(1000).hex().encode() + b"\n"


def many(size):
    """Yields 100,000 bytes in pieces."""
    return (b"x" * size for _ in range(100_000 // size))
