"""Requests within a request: httpd runs the one for an error page or an included part while the other one waits."""

import sys
import threading

LOCAL = threading.local()


def read(environ):
    """The body as received; a malformed body raises an exception in the caller."""
    yield b"read " + environ["wsgi.input"].read()


def include(environ):
    LOCAL.value = "the outer one's own"
    print("outer before", file=sys.stderr)
    yield b'<p>before</p><!--#include virtual="%s" -->' % environ["QUERY_STRING"].encode()
    print("outer between", file=sys.stderr)
    yield b"<p>after</p>"
    print(f"outer after with {LOCAL.value}", file=sys.stderr)


def page(environ):
    print("inner", file=sys.stderr)
    group = environ["mod_wsgi.application_group"]
    yield f"[page {environ['PATH_INFO']} of {group}]".encode()


def application(environ, start_response):
    case = environ["PATH_INFO"].strip("/")
    pieces = {"read": read, "include": include}.get(case, page)(environ)
    first = next(pieces)
    # An error page has to set the status of the error itself.
    start_response(environ.get("REDIRECT_STATUS", "200") + " Said", [("Content-Type", "text/html")])

    def rest():
        yield first
        yield from pieces

    return rest()
