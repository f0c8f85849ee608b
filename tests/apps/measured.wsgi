"""All events that are counted: the path chooses the event, the query its size."""

import gc
import os
import sys
import threading
import time

import mod_wsgi  # noqa: F401  (the module has to be there in every interpreter)

TEXT = [("Content-Type", "text/plain")]


def ok(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"ok"]


def status(environ, start_response):
    """Any status: `/status/404`."""
    code = environ["PATH_INFO"].rsplit("/", 1)[1]
    start_response(f"{code} Status", TEXT)
    return [] if code in ("204", "304") else [b"status"]


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def swallow(environ, start_response):
    """Reads the body and answers how it ended."""
    try:
        answer = str(len(environ["wsgi.input"].read()))
    except OSError as error:
        answer = type(error).__name__
    start_response("200 OK", TEXT)
    return [answer.encode()]


def large(environ, start_response):
    start_response("200 OK", TEXT)
    for _ in range(1000):
        yield b"x" * 65536


def call(environ, start_response):
    raise RuntimeError("in the call")


def iterate(environ, start_response):
    start_response("200 OK", TEXT)
    raise RuntimeError("in the iteration")
    yield b""


class close:
    """An iterable whose close() fails."""

    def __init__(self, environ, start_response):
        start_response("200 OK", TEXT)

    def __iter__(self):
        return iter([b"complete"])

    def close(self):
        raise RuntimeError("in close")


def protocol(environ, start_response):
    start_response("200 OK", TEXT)
    return ["no bytes"]


def log(environ, start_response):
    environ["wsgi.errors"].write("to errors\nto errors\nto errors\n")
    for _ in range(2):
        print("to stderr", file=sys.stderr)
    print("to stdout")
    return ok(environ, start_response)


def collect(environ, start_response):
    for _ in range(3):
        cycle = []
        cycle.append(cycle)
        del cycle
        gc.collect()
    return ok(environ, start_response)


def block(environ, start_response):
    """Waits until the gate is open."""
    deadline = time.monotonic() + 25
    while not os.path.exists(environ["test.gate"]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return ok(environ, start_response)


def hold(environ, start_response):
    """Keeps the GIL, in C code, for the milliseconds of the query."""
    import ctypes
    ctypes.PyDLL(None).usleep(int(environ["QUERY_STRING"]) * 1000)
    return ok(environ, start_response)


def slow(environ, start_response):
    time.sleep(0.06)
    return ok(environ, start_response)


SPINNING = []


def spin(environ, start_response):
    """Starts a thread that never releases the GIL voluntarily, until `/rest`."""
    sys.setswitchinterval(0.005)
    SPINNING.append(True)

    def run():
        while SPINNING:
            pass

    threading.Thread(target=run, daemon=True).start()
    return ok(environ, start_response)


def rest(environ, start_response):
    SPINNING.clear()
    return ok(environ, start_response)


def contend(environ, start_response):
    """A thread keeps the GIL for a while, and pieces are sent: after each the request waits for the GIL."""
    until = time.monotonic() + 0.03

    def run():
        while time.monotonic() < until:
            pass

    start_response("200 OK", TEXT)
    spinner = threading.Thread(target=run)
    spinner.start()
    for _ in range(3):
        yield b"piece"
    spinner.join()


def fork(environ, start_response):
    """Makes a copy of the process that goes on for a moment, and counts nothing."""
    environ["wsgi.errors"].write("before the fork\n")
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(5):
                print("in the fork", file=sys.stderr)
                gc.collect()
        finally:
            os._exit(0)
    _, ended = os.waitpid(pid, 0)
    if ended:
        raise RuntimeError(f"the copy ended with {ended}")
    return ok(environ, start_response)


def parallel(environ, start_response):
    """Uses `multiprocessing`, which ends a process in its own way."""
    import multiprocessing
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    workers = [context.Process(target=queue.put, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    total = sum(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    start_response("200 OK", TEXT)
    return [str(total).encode()]


def threads(environ, start_response):
    """Threads of the application log and collect garbage at the same time."""
    def work():
        print("in a thread", file=sys.stderr)
        gc.collect()

    workers = [threading.Thread(target=work) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return ok(environ, start_response)


def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/").split("/")[0]
    return globals()[name](environ, start_response)
