"""Reads a body (`/up`) or sends a large one (`/down`), for slow clients."""

import hashlib

LARGE = "".join(f"{at:07};" for at in range(125_000)).encode()


def application(environ, start_response):
    case = environ["PATH_INFO"].strip("/")
    if case == "up":
        body = environ["wsgi.input"].read()
        answer = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    else:
        answer = LARGE if case == "down" else b"fast"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
