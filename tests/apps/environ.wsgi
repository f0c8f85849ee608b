"""The environ as JSON: for each key the type's name and the value, or its repr if JSON cannot express it."""

import json


def application(environ, start_response):
    def shown(value):
        return value if isinstance(value, (str, bool, int, float, tuple, type(None))) else repr(value)

    def name(kind):
        return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"

    table = {key: [name(type(value)), shown(value)] for key, value in environ.items()}
    body = json.dumps(table).encode("ascii")
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def other(environ, start_response):
    """Another callable in the same script."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"other callable: ", environ["mod_wsgi.callable_object"].encode()]
