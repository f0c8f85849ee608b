"""start_response: each case is one way to call it; the error, if any, is the body of the response."""

import sys

OK = "200 OK"
TEXT = [("Content-Type", "text/plain")]


class Name(str):
    pass


class Pair(tuple):
    pass


class Headers(list):
    pass


CASES = {
    "plain": (OK, TEXT),
    "no-reason": ("200", TEXT),
    "empty-reason": ("200 ", TEXT),
    "subclasses": (Name(OK), Headers([Pair(("X-Sub", Name("yes")))])),
    "odd-name": (OK, [("X!odd", "yes")]),
    "tab-value": (OK, [("X-Tab", "a\tb")]),
    "latin-value": (OK, [("X-Latin", "caf\u00e9")]),
    "headers-tuple": (OK, tuple(TEXT)),
    "exc-info-string": (OK, TEXT, "not a tuple"),
    "exc-info-none": (OK, TEXT, None),
    "status-bytes": (b"200 OK", TEXT),
    "status-int": (200, TEXT),
    "status-unicode": ("200 \u2713", TEXT),
    "status-short": ("20", TEXT),
    "status-words": ("OK 200", TEXT),
    "status-four": ("2000 OK", TEXT),
    "status-dash": ("200-OK", TEXT),
    "status-newline": ("200 OK\r\nX: y", TEXT),
    "header-list": (OK, [["X-List", "yes"]]),
    "header-short": (OK, [("X-One",)]),
    "header-long": (OK, [("X-Three", "a", "b")]),
    "name-bytes": (OK, [(b"X-Bytes", "v")]),
    "name-empty": (OK, [("", "v")]),
    "name-space": (OK, [("X Space", "v")]),
    "name-control": (OK, [("X\r\nEvil", "v")]),
    "name-unicode": (OK, [("X-\u2713", "v")]),
    "value-bytes": (OK, [("X-Bytes", b"v")]),
    "value-int": (OK, [("X-Int", 1)]),
    "value-newline": (OK, [("X-Split", "a\r\nSet-Cookie: evil=1")]),
    "value-lf": (OK, [("X-Split", "a\nb")]),
    "value-unicode": (OK, [("X-Tick", "\u2713")]),
    "no-arguments": (),
    "four-arguments": (OK, TEXT, None, 1),
}


def application(environ, start_response):
    case = environ["PATH_INFO"].strip("/")
    try:
        start_response(*CASES[case])
    except Exception as error:
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Refused", type(error).__name__)], sys.exc_info())
        return [str(error).encode()]
    return [b"accepted"]
