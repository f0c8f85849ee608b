"""A hostile application that overwrites the memory of the metrics. The path chooses the bytes, the query the place."""

import ctypes
import os
import random


def mapping():
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "memfd:mod_wsgi_rs." in line:
                begin, end = (int(word, 16) for word in line.split()[0].split("-"))
                return begin, end - begin
    raise LookupError("the segment is not mapped")


def noise(size):
    return random.randbytes(size)


def markup(size):
    text = b"<script>alert(1)</script>\"'>&\n\\\x00\x1b[31m\xff"
    return (text * (size // len(text) + 1))[:size]


def ones(size):
    return b"\xff" * size


def nothing(size):
    return bytes(size)


def numbers(size):
    """Writes small numbers everywhere: plausible places, counts and states."""
    return b"".join(random.randrange(8).to_bytes(8, "little") for _ in range(size // 8))


def application(environ, start_response):
    make = globals()[environ["PATH_INFO"].strip("/")]
    address, size = mapping()
    if environ["QUERY_STRING"] == "head":
        # The header, the applications and the entries of the first arenas.
        size = min(size, 64 * 1024)
    data = make(size)
    ctypes.memmove(address, data, len(data))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d of %d" % (size, os.getpid())]
