"""Yields once, waits until the file named in `test.gate` exists, and yields again."""

import os
import time


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"first")
        wait(environ)
        return [b"second"]
    return pieces(environ)


def pieces(environ):
    yield b"first"
    if environ["PATH_INFO"] == "/empty":
        yield b""
    wait(environ)
    yield b"second"


def wait(environ):
    deadline = time.monotonic() + 20
    while not os.path.exists(environ["test.gate"]) and time.monotonic() < deadline:
        time.sleep(0.005)
