"""A script for WSGIHandlerScript, for which the name of the callable is fixed."""


def handle_request(environ, start_response):
    lines = [
        environ["mod_wsgi.request_handler"],
        environ["mod_wsgi.handler_script"],
        environ["SCRIPT_FILENAME"],
        environ["mod_wsgi.callable_object"],
    ]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["\n".join(lines).encode()]
