"""A sparse file with a mark around each place at which a part could end. The path chooses what is done with it."""

import os
import subprocess
from urllib.parse import parse_qs

MARKS = {0: b"<", (1 << 30) - 1: b"a", 1 << 30: b"b"}


def make(path, size):
    if not os.path.exists(path):
        with open(path + ".new", "wb") as file:
            file.truncate(size)
            for at, mark in {**MARKS, size - 1: b">"}.items():
                if at < size:
                    file.seek(at)
                    file.write(mark)
        os.rename(path + ".new", path)
    return path


def target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None


def application(environ, start_response):
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    size = int(query["size"])
    path = make(os.path.join(environ["test.folder"], f"file-{size}"), size)
    if environ["PATH_INFO"] == "/inherited":
        here = len([fd for fd in os.listdir("/proc/self/fd") if target(fd) == path])
        said = subprocess.run("ls -l /proc/self/fd", shell=True, close_fds=False, stdout=subprocess.PIPE).stdout
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d here, %d in programs" % (here, said.count(os.fsencode(path)))]
    file = open(path, "rb")
    file.seek(int(query.get("seek", 0)))
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    start_response("200 OK", headers)
    return environ["wsgi.file_wrapper"](file)
