"""Responses in sizes that the query chooses."""

import json
from urllib.parse import parse_qs


def application(environ, start_response):
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    case, size = environ["PATH_INFO"].strip("/"), int(query.get("size", 0))
    headers = [("Content-Type", "text/plain")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    if case == "keys":
        found = sorted(key for key in environ if key.startswith("HTTP_X_KEY_"))
        start_response("200 OK", headers)
        return [json.dumps(found).encode()]
    if case == "headers":
        headers += [(f"X-Header-{at}", str(at)) for at in range(size - len(headers))]
        start_response("200 OK", headers)
        return [b"headers"]
    if case == "log":
        environ["wsgi.errors"].write("<" + "l" * (size - 2) + ">\n")
        start_response("200 OK", headers)
        return [b"logged"]
    if case in ("read", "readline", "parts"):
        stream = environ["wsgi.input"]
        if case == "read":
            parts = [len(stream.read(size)), len(stream.read())]
        elif case == "readline":
            parts = [len(line) for line in iter(stream.readline, b"")]
        else:
            parts = [len(part) for part in iter(lambda: stream.read(size), b"")]
        start_response("200 OK", headers)
        return [json.dumps(parts).encode()]
    if case == "special":
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](open(query["path"], "rb"))
    body = b"<" + b"b" * (size - 2) + b">"
    write = start_response("200 OK", headers)
    if case == "list":
        return [body]
    if case == "tuple":
        return (body[:1], body[1:])
    if case == "generator":
        return (part for part in (body[:-1], body[-1:]))
    write(body[:1])
    return [body[1:]]
