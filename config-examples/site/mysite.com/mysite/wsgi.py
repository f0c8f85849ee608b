"""The script of a site that is a package: it stands where Django puts it."""

from mysite.pages import page


def application(environ, start_response):
    body = page().encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
