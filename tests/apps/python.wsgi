"""Answers with the settings of the interpreter."""

import json
import os
import signal
import sys

import apache
import mod_wsgi


def refused(call):
    try:
        return repr(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def signal_change():
    before = signal.getsignal(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, lambda *args: None)
    after = signal.getsignal(signal.SIGUSR2)
    return "SIG_DFL unchanged" if before == after == signal.SIG_DFL else f"{before} {after}"


def application(environ, start_response):
    import extra_module

    body = json.dumps({
        "extra": extra_module.NAME,
        "optimize": sys.flags.optimize,
        "dont_write_bytecode": sys.dont_write_bytecode,
        "hash_randomization": bool(sys.flags.hash_randomization),
        "interval": sys.getswitchinterval(),
        "eggs": os.environ["PYTHON_EGG_CACHE"],
        "argv": sys.argv,
        "warnoptions": sys.warnoptions,
        "stdin": refused(lambda: sys.stdin.read()),
        "stdout": refused(lambda: sys.stdout.write("x")),
        "signal": signal_change(),
        "threads_per_process": mod_wsgi.threads_per_process,
        "path_first": sys.path[0],
        "version": apache.version,
        "environ_version": environ["apache.version"],
    }).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
