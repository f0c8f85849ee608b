"""Who and where the process is that answers; `/end` ends it, `/wait` keeps it until the file `test.gate` is there."""

import json
import locale
import os
import sys
import time

import mod_wsgi


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/end":
        os._exit(3)
    if path == "/wait":
        with open(environ["test.gate"] + f".{os.getpid()}", "w"):
            pass
        while not os.path.exists(environ["test.gate"]):
            time.sleep(0.01)
    mask = os.umask(0)
    os.umask(mask)
    told = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "user": os.getuid(),
        "group": os.getgid(),
        "groups": os.getgroups(),
        "umask": mask,
        "folder": os.getcwd(),
        "home": os.environ.get("HOME"),
        "name": os.environ.get("USER"),
        "lang": os.environ.get("LANG"),
        "encoding": locale.getpreferredencoding(),
        "path": sys.path,
        "prefix": sys.prefix,
        "version": list(sys.version_info[:2]),
        "environ": environ["mod_wsgi.process_group"],
        "module": mod_wsgi.process_group,
        "multithread": environ["wsgi.multithread"],
        "multiprocess": environ["wsgi.multiprocess"],
        "processes": mod_wsgi.maximum_processes,
        "threads": mod_wsgi.threads_per_process,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
