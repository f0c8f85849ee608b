"""Work on order: the query gives the turns of arithmetic of a request, and the seconds of sleep after them."""

from time import sleep


def spin(turns):
    value = 1
    for _ in range(turns):
        value = value * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
    return value


def application(environ, start_response):
    turns, _, seconds = environ["QUERY_STRING"].partition("&")
    body = b"%d\n" % spin(int(turns))
    if seconds:
        sleep(float(seconds))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
