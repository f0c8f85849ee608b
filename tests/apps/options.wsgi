"""What a process of a group has from its options, and responses that mod_wsgi's daemon mode spoils."""

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time


def stack_size():
    """Returns the size of this thread's stack, by the C library."""
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_ulong
    attributes = ctypes.create_string_buffer(256)
    size = ctypes.c_size_t()
    assert libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes) == 0
    assert libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
    libc.pthread_attr_destroy(attributes)
    return size.value


def buffers():
    """Returns the sizes of the buffers of each connection over a Unix socket."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(number))) as one:
                if one.family == socket.AF_UNIX and one.type == socket.SOCK_STREAM:
                    option = one.getsockopt
                    sizes = [option(socket.SOL_SOCKET, name) for name in (socket.SO_SNDBUF, socket.SO_RCVBUF)]
                    found.append(sizes)
        except OSError:
            # It was closed meanwhile.
            continue
    return found


def ended_by_a_signal():
    """Returns the signal by which a copy of the process ends that is told to."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


class Endless:
    """A body without an end, which notes that it was closed."""

    def __init__(self, path):
        self.path = path

    def __iter__(self):
        while True:
            yield b"x" * 65536

    def close(self):
        open(self.path, "w").close()


def broken():
    yield b"first"
    raise ValueError("after the first part")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    headers = [("Content-Type", "text/plain")]
    if path == "/endless":
        start_response("200 OK", headers)
        return Endless(environ["test.gate"] + ".closed")
    if path == "/broken":
        start_response("200 OK", headers)
        return broken()
    if path == "/twice":
        start_response("200 OK", [*headers, ("X-Twice", "one"), ("X-Twice", "two"), ("X-Long", "x" * 100_000)])
        return [b"twice"]
    if path == "/early":
        start_response("413 Content Too Large", headers)
        return [b"too large"]
    if path == "/linger":
        threading.Thread(target=time.sleep, args=(1000,)).start()
        start_response("200 OK", headers)
        return [b"lingers"]
    told = {
        "pid": os.getpid(),
        "interval": sys.getswitchinterval(),
        "eggs": os.environ.get("PYTHON_EGG_CACHE"),
        "locale": os.environ.get("LC_ALL"),
        "groups": os.getgroups(),
        "prefix": sys.prefix,
        "stack": stack_size(),
        "buffers": buffers(),
    }
    if path == "/forked":
        told["signal"] = ended_by_a_signal()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
