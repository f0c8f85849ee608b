"""Reads a body (`/up`) or sends one of a megabyte (`/down`) or of as many as the query says, for slow clients."""

import hashlib

LARGE = "".join(f"{at:07};" for at in range(125_000)).encode()


def application(environ, start_response):
    case = environ["PATH_INFO"].strip("/")
    if case == "up":
        body = environ["wsgi.input"].read()
        answer = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    else:
        answer = LARGE * int(environ["QUERY_STRING"] or 1) if case == "down" else b"fast"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
