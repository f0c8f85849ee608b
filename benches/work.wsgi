"""Bound by the processor: every request does the same few milliseconds of arithmetic in the interpreter."""


def application(environ, start_response):
    value = 1
    for _ in range(60_000):
        value = value * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
    body = b"Hello world\n" if value == 351_997_601 else b"%d\n" % value
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
