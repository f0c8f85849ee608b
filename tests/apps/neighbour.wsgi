"""Tries what a process of a group must not be able to do with another one, and tells the outcome of each."""

import ctypes
import errno
import glob
import json
import os
import socket
import sys
from urllib.parse import parse_qs

import django
import own


def outcome(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "done"


def connect(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(path)


def attach(process):
    """Attaches to a process as a debugger does."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(ctypes.c_long(16), ctypes.c_long(process), None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def opened(path, mode):
    with open(path, mode, buffering=0) as file:
        file.read(1) if mode == "rb" else file.write(b"x")


def attempts(root, other, secret, parent):
    segments = glob.glob(f"{root}/mod_wsgi_rs.segment*")
    for path in [*glob.glob(f"{root}/*.sock"), *glob.glob(f"{root}/metrics*")]:
        yield f"connect {os.path.basename(path)}", lambda: connect(path)
    for path in segments:
        yield f"write {os.path.basename(path)}", lambda: opened(path, "r+b")
    for process in (other, parent):
        yield f"signal {process}", lambda: os.kill(process, 0)
        yield f"attach {process}", lambda: attach(process)
        yield f"list {process}", lambda: os.listdir(f"/proc/{process}/fd")
        for name in ("mem", "maps", "environ"):
            yield f"read {process} {name}", lambda: opened(f"/proc/{process}/{name}", "rb")
        yield f"write {process} mem", lambda: opened(f"/proc/{process}/mem", "r+b")
    yield "read secret", lambda: opened(secret, "rb")
    yield "write secret", lambda: opened(secret, "ab")
    yield "write folder", lambda: opened(os.path.join(os.path.dirname(secret), "new"), "wb")


def application(environ, start_response):
    asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    told = {
        "own": own.NAME,
        "django": django.__file__,
        "locale": os.environ.get("LC_ALL"),
        "group": os.getgid(),
        "environ": sorted(os.environ),
        "tried": {},
    }
    if "root" in asked:
        tries = attempts(asked["root"], int(asked["other"]), asked["secret"], int(asked["parent"]))
        told["tried"] = {name: outcome(call) for name, call in tries}
    os.environ[f"LEFT_BY_{own.NAME}"] = "yes"
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
