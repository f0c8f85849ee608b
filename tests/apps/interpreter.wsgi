"""Answers with the interpreter in which it runs, and changes it as the query asks."""

import json
import logging
import os
import subprocess
import sys
import threading

import mod_wsgi

CALLS = 0


def application(environ, start_response):
    global CALLS
    CALLS += 1
    wanted = environ["QUERY_STRING"]
    if wanted.startswith("mark="):
        mark = wanted[5:]
        sys.path.append(mark)
        logging.getLogger("test").setLevel(int(mark[-1:]) * 10)
        os.environ["WSGI_TEST_MARK"] = mark
    told = {
        "calls": CALLS,
        "version": list(sys.version_info[:2]),
        "environ": environ["mod_wsgi.application_group"],
        "module": mod_wsgi.application_group,
        "replica": environ.get("mod_wsgi.replica"),
        "multithread": environ["wsgi.multithread"],
        "multiprocess": environ["wsgi.multiprocess"],
        "pid": os.getpid(),
        "path": sys.path[-1],
        "level": logging.getLogger("test").level,
        "mark": os.environ.get("WSGI_TEST_MARK"),
    }
    if wanted == "process":
        told["process"] = in_the_process("WSGI_TEST_MARK")
        child = subprocess.run(["printenv", "WSGI_TEST_MARK"], capture_output=True, text=True)
        told["child"] = child.stdout.strip()
    elif wanted == "callback":
        told["callback"] = called_back()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


def in_the_process(name):
    """The result of getenv(3)."""
    import ctypes

    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    value = getenv(name.encode())
    return value and value.decode()


def called_back():
    """C code that calls Python by PyGILState_Ensure, as extensions do, on this thread and on a thread of C code."""
    import ctypes

    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 5)(3, 1, 5, 2, 4)
    order = compare(lambda left, right: left[0] - right[0])
    ctypes.CDLL(None).qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), order)
    return list(numbers)
