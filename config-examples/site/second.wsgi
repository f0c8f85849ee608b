"""Another application, in its own interpreter."""


def application(environ, start_response):
    body = ("The second application, in the group %r\n" % environ["mod_wsgi.application_group"]).encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
