"""Requests within requests that stop at the gate of the test (`test.gate`), and log lines of other threads."""

import socket
import sys
import threading


def gate(environ):
    """A part that is included, or requested directly; it stops at the gate."""
    name = environ["PATH_INFO"].rpartition("/")[2]
    with socket.create_connection(("127.0.0.1", int(environ["test.gate"]))) as gate:
        gate.sendall(name.encode() + b"\n")
        gate.recv(1)
    yield b"[%s]" % name.encode()


def include(environ):
    """Includes the part that the query names."""
    yield b'<p>before</p><!--#include virtual="%s" --><p>after</p>' % environ["QUERY_STRING"].encode()


def read(environ):
    """Another thread writes to the log until the body, which comes slowly, has been read."""
    over = threading.Event()

    def write():
        number = 0
        while not over.is_set():
            print(f"beside {number}", file=environ["wsgi.errors"])
            number += 1
            over.wait(0.005)

    other = threading.Thread(target=write)
    other.start()
    length = len(environ["wsgi.input"].read())
    over.set()
    other.join()
    print("after", file=sys.stderr)
    yield b"read %d" % length


def identity(environ):
    yield environ["mod_wsgi.request_id"].encode()


CASES = {"include": include, "read": read, "identity": identity}


def application(environ, start_response):
    case = environ["PATH_INFO"].strip("/").partition("/")[0]
    pieces = list(CASES.get(case, gate)(environ)) if case != "include" else include(environ)
    start_response("200 OK", [("Content-Type", "text/html")])
    return pieces
