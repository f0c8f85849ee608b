"""Answers with the number of this load, and asks for another load after a request with `?reload`."""

import time

LOADED = time.monotonic_ns()
WISH = {"answer": False}


def reload_required(resource):
    if WISH["answer"] is None:
        WISH["answer"] = False
        raise ValueError(f"cannot tell about {resource}")
    return WISH["answer"]


def application(environ, start_response):
    if environ["QUERY_STRING"] == "reload":
        WISH["answer"] = True
    if environ["QUERY_STRING"] == "raise":
        WISH["answer"] = None
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(LOADED).encode()]
