"""Applications for clients that fail; the path chooses how they read and answer. Each close() writes a line to the file
`test.closed`."""

import os
import time

TEXT = ("Content-Type", "text/plain")
FIVE = ("Content-Length", "5")


class Body:
    def __init__(self, chunks, environ):
        self.chunks, self.environ = chunks, environ

    def __iter__(self):
        return self.chunks

    def close(self):
        note(self.environ)


def note(environ):
    with open(environ["test.closed"], "a") as file:
        file.write(environ["PATH_INFO"] + "\n")


def for_ever(*first, chunk=b""):
    yield from first
    while True:
        time.sleep(0.01)
        yield chunk


def pause(seconds):
    """Yields empty chunks for a time, and then a part of the body."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
        yield b""
    yield b"late"


def work_after(environ):
    """The response is complete, and the work goes on until the test ends it."""
    yield b"hello" * 100
    root = os.path.dirname(os.path.dirname(environ["test.closed"]))
    while not os.path.exists(os.path.join(root, "go")):
        time.sleep(0.02)


def read(environ):
    return environ["wsgi.input"].read()


def application(environ, start_response):
    case = environ["PATH_INFO"].strip("/")
    stream = environ["wsgi.input"]
    if case == "read":
        body = stream.read()
    elif case == "lines":
        body = b"".join(stream)
    elif case == "chained":
        try:
            body = stream.read()
        except OSError as error:
            raise RuntimeError("cannot go on") from error
    elif case == "own":
        try:
            body = stream.read()
        except OSError as error:
            start_response("200 OK", [TEXT])
            return [f"caught {type(error).__name__} {error.errno}".encode()]
    elif case == "own_500":
        try:
            body = stream.read()
        except OSError:
            start_response("500 Oops", [TEXT])
            return [b"my own page"]
    elif case == "in_generator":
        start_response("200 OK", [TEXT])
        return Body((read(environ) for _ in range(2)), environ)
    else:
        return response(case, environ, start_response)
    start_response("200 OK", [TEXT])
    return [b"read %d" % len(body)]


def response(case, environ, start_response):
    if case == "empty_chunks":
        start_response("200 OK", [TEXT])
        return Body(for_ever(), environ)
    if case == "empty_after_some":
        start_response("200 OK", [TEXT])
        return Body(for_ever(b"some"), environ)
    if case == "length_reached":
        start_response("200 OK", [TEXT, FIVE])
        return Body(for_ever(b"hello", chunk=b"more"), environ)
    if case == "length_reached_empty":
        start_response("200 OK", [TEXT, FIVE])
        return Body(for_ever(b"hel", b"lo"), environ)
    if case == "endless":
        start_response("200 OK", [TEXT])
        return Body(for_ever(b"hello", chunk=b"more"), environ)
    if case == "endless_404":
        start_response("404 Not Found", [TEXT])
        return Body(for_ever(b"hello", chunk=b"more"), environ)
    if case == "work_after":
        start_response("200 OK", [TEXT, ("Content-Length", "500")])
        return Body(work_after(environ), environ)
    if case == "write_empty":
        write = start_response("200 OK", [TEXT])
        try:
            while True:
                time.sleep(0.01)
                write(b"")
        except OSError:
            note(environ)
            raise
    if case == "write_beyond":
        write = start_response("200 OK", [TEXT, FIVE])
        try:
            while True:
                time.sleep(0.01)
                write(b"hello")
        except OSError:
            note(environ)
            raise
    if case == "pause":
        start_response("200 OK", [TEXT])
        return Body(pause(2), environ)
    if case == "quick":
        start_response("200 OK", [TEXT])
        return [b"quick"]
    raise KeyError(case)
