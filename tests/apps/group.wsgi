"""Answers with its application group, and with the number of calls of this copy of the module."""

import json

import mod_wsgi

CALLS = 0


def application(environ, start_response):
    global CALLS
    CALLS += 1
    body = json.dumps({
        "environ": environ["mod_wsgi.application_group"],
        "module": mod_wsgi.application_group,
        "process_group": mod_wsgi.process_group,
        "calls": CALLS,
        "name": __name__,
    }).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def other(environ, start_response):
    """Another callable in the same script."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"other callable in ", mod_wsgi.application_group.encode()]
