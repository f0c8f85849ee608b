"""Says hello, and names its application group."""


def application(environ, start_response):
    return say(start_response, "Hello from the group %r" % environ["mod_wsgi.application_group"])


def again(environ, start_response):
    return say(start_response, "Hello again from the group %r" % environ["mod_wsgi.application_group"])


def say(start_response, text):
    body = (text + "\n").encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
