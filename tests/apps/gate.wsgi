"""Waits at the gate of the test (`test.gate`), or computes, depending on the path. It answers with its name: the last part
of the path, or the number of its thread."""

import select
import socket
import time


def spin(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def application(environ, start_response):
    case, _, name = environ["PATH_INFO"].strip("/").partition("/")
    if case == "wait-number":
        name = str(environ["mod_wsgi.thread_id"])
    if case in ("wait", "wait-number", "compute"):
        with socket.create_connection(("127.0.0.1", int(environ["test.gate"]))) as gate:
            gate.sendall(name.encode() + b"\n")
            if case == "compute":
                while not select.select([gate], [], [], 0)[0]:
                    spin(0.05)
            gate.recv(1)
    elif case == "sleep":
        time.sleep(float(name))
    elif case == "spin":
        spin(float(name))
    body = name.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
