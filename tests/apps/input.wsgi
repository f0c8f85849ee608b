"""wsgi.input: the path chooses how the body is read, the response shows what was read."""

import hashlib
import json

KEPT = {}


def read(stream):
    return stream.read()


def read_negative(stream):
    return stream.read(-1)


def digest(stream):
    sha = hashlib.sha256()
    length = 0
    while block := stream.read(65536):
        sha.update(block)
        length += len(block)
    return f"{length} {sha.hexdigest()}"


def tens(stream):
    sizes = []
    while block := stream.read(10):
        sizes.append(len(block))
    return sizes


def zero_then_rest(stream):
    return [stream.read(0), stream.read()]


def readline(stream):
    return [stream.readline(), stream.readline(), stream.readline(), stream.readline()]


def readline_limit(stream):
    return [stream.readline(4), stream.readline(4), stream.readline(4), stream.readline(0), stream.read()]


def readlines(stream):
    return stream.readlines()


def readlines_hint(stream):
    return [*stream.readlines(1), b"|", stream.read()]


def iterate(stream):
    return list(stream)


def mixed(stream):
    return [stream.readline(), stream.read(3), next(iter(stream)), stream.read(1), stream.read()]


def after_close(stream):
    return [repr(stream.close()), stream.read()]


def past_the_end(stream):
    return [stream.read(), stream.read(), stream.read(5), stream.readline(), *stream.readlines()]


def none(stream):
    return refused(lambda: stream.read(None))


def keyword(stream):
    return refused(lambda: stream.read(size=1))


def failing(stream):
    """Reads until a read fails, and then again: the error must stay."""
    return [refused(lambda: digest(stream)), refused(stream.read), refused(stream.readline)]


def unread(stream):
    return "not read"


def some(stream):
    return stream.read(2)


def refused(call):
    try:
        return f"no error: {call()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def keep(stream):
    KEPT["stream"] = stream
    return stream.read()


def kept(stream):
    old = KEPT["stream"]
    calls = [old.read, old.readline, old.readlines, old.close, lambda: iter(old) and next(iter(old))]
    return [refused(call) for call in calls]


def application(environ, start_response):
    result = globals()[environ["PATH_INFO"].strip("/")](environ["wsgi.input"])
    show = lambda value: value.decode("latin-1") if isinstance(value, bytes) else value
    result = [show(value) for value in result] if isinstance(result, list) else show(result)
    body = json.dumps(result).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
