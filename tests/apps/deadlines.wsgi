"""Requests that take long in different ways; the path names the way, the query the number of seconds."""

import ctypes
import os
import socket
import time

import mod_wsgi

C = ctypes.PyDLL(None)
KEPT = []


def who(seconds):
    """Answers at once."""


def spin(seconds):
    """Computes, and catches all exceptions that an application may catch."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            for _ in range(1000):
                pass
        except Exception:
            pass


def crawl(seconds):
    """Waits, in steps that an exception can end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


def insist(seconds):
    """Catches all exceptions, once."""
    try:
        spin(seconds)
    except BaseException:
        spin(seconds)


def clean(seconds):
    """Cleans up when it is interrupted, and logs that."""
    try:
        spin(seconds)
    except mod_wsgi.RequestTimeout:
        KEPT.append("cleaned")
        raise


def sleep(seconds):
    time.sleep(seconds)


def read(seconds):
    """Waits for a socket to which nothing is ever written."""
    ends = socket.socketpair()
    KEPT.append(ends)
    ends[0].recv(1)


def hold(seconds):
    """Sleeps in C code, which keeps the GIL."""
    C.sleep(int(seconds))


WAYS = {way.__name__: way for way in (who, spin, crawl, insist, clean, sleep, read, hold)}


def stream(way, seconds):
    yield b"first"
    way(seconds)
    yield b"second"


def application(environ, start_response):
    name, _, rest = environ["PATH_INFO"].strip("/").partition("/")
    way = WAYS[rest or name]
    seconds = float(environ["QUERY_STRING"].partition("&")[0] or 0)
    if name == "stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream(way, seconds)
    if name == "body":
        KEPT.append(environ["wsgi.input"].read())
    way(seconds)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
