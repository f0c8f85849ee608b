"""Takes a body (`/up`) and gives a large one (`/down`), which slow clients make last."""

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
