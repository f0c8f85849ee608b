"""wsgi.file_wrapper: the path chooses the wrapped object, the query how it is used."""

import io
import os
from urllib.parse import parse_qs

import mod_wsgi

CLOSED = []
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Watched(io.FileIO):
    def close(self):
        CLOSED.append(self.name)
        super().close()


class Subclass(mod_wsgi.FileWrapper):
    pass


def application(environ, start_response):
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    case = environ["PATH_INFO"].strip("/")
    path = environ["test.file"]
    if case == "closed":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(len(CLOSED)).encode()]
    if case == "attributes":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return ["\n".join(attributes(environ)).encode()]

    with open(path, "rb") as file:
        content = file.read()
    files = {
        "bytes": lambda: io.BytesIO(content),
        "text": lambda: open(path, "r", encoding="latin-1"),
        "buffered": lambda: open(path, "rb"),
        "watched": lambda: Watched(path),
    }
    file = files[case]()
    if "seek" in query:
        file.seek(int(query["seek"]))
    if "read" in query:
        file.read(int(query["read"]))
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    if "body" in query:
        try:
            environ["wsgi.input"].read()
        except OSError:
            pass
    write = start_response("200 OK", headers)
    if "write" in query:
        write(b"written first\n")
    if "raise" in query:
        # The file is wrapped, but the wrapper is not returned.
        environ["wsgi.file_wrapper"](file)
        file.close()
        raise RuntimeError("wrapped and raised")
    kind = Subclass if "subclass" in query else environ["wsgi.file_wrapper"]
    return kind(file, int(query["block"])) if "block" in query else kind(file)


def attributes(environ):
    kind = environ["wsgi.file_wrapper"]
    wrapper = kind(io.BytesIO(b"abcdef"), 4)
    yield str(kind is mod_wsgi.FileWrapper)
    yield str(wrapper.blksize)
    yield str(list(wrapper))
    yield str(kind(filelike=io.BytesIO(b"abc"), blksize=2).blksize)
    yield str(kind(io.BytesIO(b"")).blksize)
    for action in (
        lambda: kind(io.BytesIO(b""), -1),
        lambda: setattr(wrapper, "blksize", 1),
        lambda: next(iter(kind(io.StringIO("text")))),
        lambda: (wrapper.close(), wrapper.filelike),
        lambda: list(wrapper),
    ):
        try:
            action()
            yield "no error"
        except Exception as error:
            yield type(error).__name__
