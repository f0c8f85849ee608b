"""Answers with the Python that it runs on."""

import sys


def application(environ, start_response):
    body = ("Python %d.%d in %s\n" % (*sys.version_info[:2], sys.prefix)).encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
