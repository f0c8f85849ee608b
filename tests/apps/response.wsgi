"""Responses of all forms, chosen by the path."""

import sys

TEXT = ("Content-Type", "text/plain")


def single(start_response):
    start_response("200 OK", [TEXT])
    return [b"one piece"]


def several(start_response):
    start_response("200 OK", [TEXT])
    return [b"one ", b"", b"two ", b"three"]


def empty_list(start_response):
    start_response("200 OK", [TEXT])
    return []


def empty_item(start_response):
    start_response("200 OK", [TEXT])
    return [b""]


def one_tuple(start_response):
    start_response("200 OK", [TEXT])
    return (b"tuple",)


def generator(start_response):
    start_response("200 OK", [TEXT])
    yield b"late "
    yield b"pieces"


def late_start(start_response):
    """A generator: start_response is called at the first step, as PEP 3333 allows."""
    yield from several(start_response)


def bytes_itself(start_response):
    start_response("200 OK", [TEXT])
    return b"abc"


def write_only(start_response):
    write = start_response("200 OK", [TEXT])
    write(b"written ")
    write(b"twice")
    return []


def write_and_return(start_response):
    write = start_response("200 OK", [TEXT])
    write(b"written ")
    return [b"returned"]


def write_nothing(start_response):
    """`write(b"")` sends the headers: the second start_response comes too late."""
    write = start_response("200 OK", [TEXT])
    write(b"")
    try:
        start_response("404 Not Found", [TEXT])
    except Exception as error:
        return [f"{type(error).__name__}: {error}".encode()]
    return [b"no error"]


def write_text(start_response):
    write = start_response("200 OK", [TEXT])
    try:
        write("text")
    except TypeError as error:
        return [b"TypeError: ", str(error).encode()]


def twice(start_response):
    """More tolerant than PEP 3333: before any output the second call replaces the first."""
    start_response("200 OK", [TEXT, ("X-First", "1")])
    start_response("404 Not Found", [TEXT, ("X-Second", "2")])
    return [b"second"]


def twice_late(start_response):
    start_response("200 OK", [TEXT])
    yield b"started\n"
    try:
        start_response("404 Not Found", [TEXT])
    except Exception as error:
        yield f"{type(error).__name__}: {error}\n".encode()


def exc_info_early(start_response):
    start_response("200 OK", [TEXT])
    try:
        raise ValueError("replaced in time")
    except ValueError:
        start_response("500 Replaced", [TEXT], sys.exc_info())
    return [b"error page of the application"]


def exc_info_late(start_response):
    start_response("200 OK", [TEXT])
    yield b"started\n"
    try:
        raise ValueError("too late to replace")
    except ValueError:
        try:
            start_response("500 Replaced", [TEXT], sys.exc_info())
        except ValueError as error:
            yield f"raised again: {error}".encode()


def exact(start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    return [b"12345"]


def surplus(start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    return [b"123", b"456789", b"more"]


def surplus_large(start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    return [b"hello", b"X" * 70000]


def surplus_later(start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    yield b"hello"
    yield b"X" * 70000


def surplus_write(start_response):
    write = start_response("200 OK", [TEXT, ("Content-Length", "5")])
    yield b"hello"
    write(b"EVIL!")


def again_when_complete(start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    yield b"hello"
    start_response("404 Not Found", [TEXT, ("Content-Length", "9")])
    yield b"not found"


def replaced_when_complete(start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    yield b"hello"
    try:
        raise ValueError("after the last byte")
    except ValueError:
        start_response("500 Replaced", [TEXT, ("Content-Length", "5")], sys.exc_info())
    yield b"sorry"


def short(start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "50")])
    return [b"12345"]


def no_content(start_response):
    start_response("204 No Content", [])
    return []


def no_content_with_body(start_response):
    start_response("204 No Content", [])
    return [b"not to be sent"]


def not_modified(start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def cookies(start_response):
    start_response("200 OK", [TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/"), ("X-Twice", "1"),
                              ("X-Twice", "2")])
    return [b"cookies"]


def teapot(start_response):
    start_response("418 I'm a teapot", [TEXT])
    return [b"short and stout"]


def not_found(start_response):
    start_response("404 Nothing Here", [TEXT])
    return [b"the application's own page"]


def authenticate(start_response):
    start_response("401 Unauthorized", [TEXT, ("WWW-Authenticate", 'Basic realm="x"')])
    return [b"your name?"]


def location(start_response):
    start_response("302 Found", [("Location", "/elsewhere?a=b")])
    return []


def server_error(start_response):
    start_response("503 Try Later", [TEXT, ("Retry-After", "7")])
    return [b"busy"]


def long_line(start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"x" * 5000]


def long_line_streamed(start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    for _ in range(5):
        yield b"x" * 1000


def long_line_written(start_response):
    write = start_response("200 OK", [("Content-Type", "text/html")])
    write(b"x" * 5000)
    return [b"x"]


def large(start_response):
    start_response("200 OK", [TEXT])
    return [b"x" * 1000000, b"y" * 1000000]


def application(environ, start_response):
    return globals()[environ["PATH_INFO"].strip("/")](start_response)
