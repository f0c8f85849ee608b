"""wsgi.errors and the standard streams: the path chooses the text and the stream."""

import sys

KEPT = {}


def lines(environ, errors):
    errors.write("first line\n")
    errors.write("second ")
    errors.write("line\n")
    errors.write("no newline at the end")


def flushed(environ, errors):
    errors.write("before the flush")
    errors.flush()
    errors.write("after the flush\n")


def writelines(environ, errors):
    errors.writelines(["from writelines 1\n", "from writelines 2\n"])


def printed(environ, errors):
    print("printed to errors", file=errors)


def standard(environ, errors):
    print("said on stdout")
    print("said on stderr", file=sys.stderr)
    sys.stderr.write("stderr in pieces: ")
    sys.stderr.write("one line\n")


def binary(environ, errors):
    errors.buffer.write(b"bytes in the log\n")
    errors.buffer.writelines([b"bytes from ", b"writelines\n"])


def unicode(environ, errors):
    errors.write("caf\u00e9 \u2713\n")


def long(environ, errors):
    errors.write("L" * 9000 + "\n")


def nul(environ, errors):
    errors.write("before\0after\n")


def nature(environ, errors):
    facts = [type(errors).__name__, errors.encoding, errors.errors, errors.name, errors.closed, errors.isatty()]
    facts += [sys.stderr.name, sys.stdout.name]
    for stream in (errors, sys.stderr, sys.stdout):
        try:
            stream.fileno()
        except OSError:
            facts.append("no fileno")
    return facts


def keep(environ, errors):
    KEPT["errors"] = errors


def kept(environ, errors):
    try:
        KEPT["errors"].write("too late\n")
        KEPT["errors"].flush()
    except RuntimeError as error:
        return str(error)


def application(environ, start_response):
    result = globals()[environ["PATH_INFO"].strip("/")](environ, environ["wsgi.errors"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(result).encode()]


print("said while loading")
