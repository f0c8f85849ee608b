"""Every way to send a request and a response. The path names the way, a token and a size; all bytes are made from the token,
so data of another request cannot be mistaken for them."""

import contextvars
import io
import os
import sys
import threading
import time

TOKEN = contextvars.ContextVar("token", default=None)
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mixed.wsgi")
THREADS = set()


def stuff(token, size):
    """`size` bytes, numbered."""
    width = len(token) + 8
    return "".join(f"{token}{at:07};" for at in range(size // width + 1)).encode()[:size]


def pieces(token, size):
    """The same bytes in pieces of different sizes."""
    whole, at, step = stuff(token, size), 0, 1
    while at < size:
        yield whole[at : at + step]
        at, step = at + step, step * 3 + 1


def in_list(environ, token, size):
    return list(pieces(token, size))


def in_generator(environ, token, size):
    for piece in pieces(token, size):
        if TOKEN.get() != token:
            raise RuntimeError(f"{TOKEN.get()} is the context of another request than {token}")
        time.sleep(0.0002)
        yield piece


def in_write(environ, token, size):
    write = environ["test.write"]
    *first, last = pieces(token, size)
    for piece in first:
        write(piece)
    return [last]


def in_file(environ, token, size):
    return environ["wsgi.file_wrapper"](io.BytesIO(stuff(token, size)), 1000)


def of_disk(environ, token, size):
    file = open(FILE, "rb")
    file.seek(size)
    return environ["wsgi.file_wrapper"](file)


def echo(environ, token, size):
    return [environ["wsgi.input"].read()]


def echo_lines(environ, token, size):
    return iter(environ["wsgi.input"])


def said(environ, token, size):
    print(f"{token} in errors", file=environ["wsgi.errors"])
    print(f"{token} on stdout")
    print(f"{token} on stderr", file=sys.stderr)
    return [stuff(token, size)]


def including(environ, token, size):
    part = f'<!--#include virtual="/app/list/{token}-part/{size}" -->'
    yield stuff(token, size)
    yield part.encode()
    yield stuff(token, size)


def refused(environ, token, size):
    """Gets a malformed body, for which httpd requests an error page while the body is read."""
    return [environ["wsgi.input"].read()]


def page(environ, token, size):
    _, _, _, of, of_size = environ["REDIRECT_URL"].split("/")
    return in_list(environ, of, int(of_size))


def threads(environ, token, size):
    """The number of threads that have run this so far, and the number of the thread whose request it is."""
    THREADS.add(threading.get_ident())
    return [f"{len(THREADS)} {environ['mod_wsgi.thread_id']}".encode()]


WAYS = {
    "list": in_list,
    "generator": in_generator,
    "write": in_write,
    "file": in_file,
    "disk": of_disk,
    "echo": echo,
    "lines": echo_lines,
    "said": said,
    "including": including,
    "refused": refused,
    "page": page,
    "threads": threads,
}


def application(environ, start_response):
    _, way, token, size = environ["PATH_INFO"].split("/")
    if TOKEN.get() is not None:
        raise RuntimeError(f"{token} has the context of {TOKEN.get()}")
    TOKEN.set(token)
    if environ["QUERY_STRING"] != f"token={token}" and way not in ("page", "list"):
        raise RuntimeError(f"{token} has the query {environ['QUERY_STRING']}")
    status = environ.get("REDIRECT_STATUS", "200")
    kind = "text/html" if way == "including" else "text/plain"
    environ["test.write"] = start_response(f"{status} Said", [("Content-Type", kind), ("X-Token", token)])
    return WAYS[way](environ, token, int(size))
