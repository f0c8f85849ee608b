"""Ways to fail, chosen by the path. `/count` answers with the number of calls of close(), by case."""

import json
import sys

TEXT = [("Content-Type", "text/plain")]
CLOSED = {}


class Body:
    """An iterable that counts its close() calls and can fail at every place."""

    def __init__(self, case, pieces=(), fail=None, fail_close=None, fail_iter=None):
        self.case, self.pieces, self.fail, self.fail_close = case, iter(pieces), fail, fail_close
        self.fail_iter = fail_iter

    def __iter__(self):
        if self.fail_iter:
            raise self.fail_iter
        return self

    def __next__(self):
        for piece in self.pieces:
            return piece
        raise self.fail or StopIteration

    def close(self):
        CLOSED[self.case] = CLOSED.get(self.case, 0) + 1
        if self.fail_close:
            raise self.fail_close


class BadClose:
    def __iter__(self):
        return iter([b"body"])

    @property
    def close(self):
        raise ValueError("no close to be had")


def good(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, [b"good"])


def raises(case, start_response):
    raise RuntimeError("before any output")


def raises_after_start(case, start_response):
    start_response("200 Fine", TEXT)
    raise RuntimeError("after start_response")


def exits(case, start_response):
    sys.exit(3)


def never_starts(case, start_response):
    return Body(case, [b"body without headers"])


def never_starts_empty(case, start_response):
    return Body(case)


def iterator_raises_at_once(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, fail=KeyError("first step"))


def iterator_raises_half_way(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, [b"half of "], fail=KeyError("half-way"))


def iterator_raises_half_way_length(case, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    return Body(case, [b"half of "], fail=KeyError("half-way of a length"))


def iterator_exits_half_way(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, [b"half of "], fail=SystemExit(4))


def generator_raises_half_way(case, start_response):
    start_response("200 OK", TEXT)
    yield b"half of "
    raise ValueError("generator half-way")


def iter_raises(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, fail_iter=ValueError("no iterator"))


def returns_text(case, start_response):
    start_response("200 OK", TEXT)
    return "text"


def returns_none(case, start_response):
    start_response("200 OK", TEXT)


def returns_number(case, start_response):
    start_response("200 OK", TEXT)
    return 42


def text_item(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, ["text"])


def text_item_half_way(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, [b"half of ", "text"])


def split_header(case, start_response):
    start_response("200 OK", [("X-Split", "a\r\nSet-Cookie: evil=1")])
    return [b"never"]


def bad_length_negative(case, start_response):
    start_response("200 OK", [("Content-Length", "-1")])
    return [b"never"]


def bad_length_words(case, start_response):
    start_response("200 OK", [("Content-Length", "five")])
    return [b"never"]


def raises_after_write(case, start_response):
    write = start_response("200 OK", TEXT)
    write(b"written ")
    raise RuntimeError("after write")


def close_raises(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, [b"complete"], fail_close=ValueError("close failed"))


def close_exits(case, start_response):
    start_response("200 OK", TEXT)
    return Body(case, [b"complete"], fail_close=SystemExit(5))


def close_missing(case, start_response):
    start_response("200 OK", TEXT)
    return BadClose()


def endless(case, start_response):
    start_response("200 OK", TEXT)

    def pieces():
        while True:
            yield b"x" * 65536

    return Body(case, pieces())


def endless_write(case, start_response):
    write = start_response("200 OK", TEXT)
    try:
        while True:
            write(b"x" * 65536)
    except OSError:
        CLOSED[case] = CLOSED.get(case, 0) + 1
        raise


def chained(case, start_response):
    try:
        {}["missing"]
    except KeyError as error:
        raise RuntimeError("chained failure") from error


def recursion(case, start_response):
    return recursion(case, start_response)


def base_exception(case, start_response):
    raise KeyboardInterrupt("from the application")


def weird_exception(case, start_response):
    class Weird(Exception):
        def __str__(self):
            raise ValueError("cannot be told")

    raise Weird


def count(case, start_response):
    body = json.dumps(CLOSED).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def application(environ, start_response):
    case = environ["PATH_INFO"].strip("/")
    return globals()[case](case, start_response)
