"""Any status: the query chooses the status, the form of the body, and additional headers."""

import mod_wsgi

from urllib.parse import parse_qs

BODY = b"a body of the application"


def application(environ, start_response):
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    headers = [("Content-Type", "text/plain")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    if "retry" in query:
        headers.append(("Retry-After", query["retry"]))
    if "allow" in query:
        headers += [("Allow", value) for value in query["allow"].split(";")]
    body = b"" if "empty" in query else BODY
    write = start_response(query["status"], headers)
    if "reading" in query:
        environ["wsgi.input"].read()
    how = query.get("how", "list")
    if how == "list":
        return [body]
    if how == "generator":
        return (part for part in (body[:3], body[3:]))
    if how == "write":
        write(body)
        return []
    return mod_wsgi.FileWrapper(open(__file__, "rb"))


def page(environ, start_response):
    """An error page that contains its status."""
    status = environ["REDIRECT_STATUS"]
    start_response(f"{status} Page", [("Content-Type", "text/plain")])
    return [f"page for {status}".encode()]


def other_page(environ, start_response):
    """An error page whose own status cannot be sent."""
    start_response("103 Early Hints", [])
    return [b"never"]
