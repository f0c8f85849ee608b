"""A separate environment for an interpreter, in place of the environment of the process.

Executed with separate globals in interpreters whose writes to `os.environ` must not leave them. `os.environ` writes
through `os.putenv`; its replacement writes to ENVIRONMENT, which the functions that start programs pass to them.

Not covered: code that asks the C library itself and still sees the environment of the process (`time.tzset`, extension
modules, `ctypes`), and code that calls the functions of the module `posix`.
"""

import os
import sys

# The environment of programs that this interpreter starts, as bytes.
ENVIRONMENT = {}


def keep_environ(environment):
    """Gives the interpreter this environment, a dict of bytes."""
    ENVIRONMENT.update(environment)
    data = os.environ._data
    data.clear()
    data.update(environment)
    for function in (putenv, unsetenv, execv, posix_spawn, posix_spawnp, system, reload_environ):
        original = getattr(os, function.__name__, None)
        if original is not None:
            function.__doc__ = original.__doc__
            function.__module__ = "os"
            setattr(os, function.__name__, function)
    import _posixsubprocess

    _posixsubprocess.fork_exec = fork_exec
    # If `subprocess` was imported already.
    subprocess = sys.modules.get("subprocess")
    if hasattr(subprocess, "_fork_exec"):
        subprocess._fork_exec = fork_exec


def putenv(name, value, /):
    sys.audit("os.putenv", name, value)
    name, value = os.fsencode(name), os.fsencode(value)
    check(name)
    if b"\0" in value:
        raise ValueError("embedded null byte")
    ENVIRONMENT[name] = value


def unsetenv(name, /):
    sys.audit("os.unsetenv", name)
    name = os.fsencode(name)
    check(name)
    ENVIRONMENT.pop(name, None)


def check(name):
    """Checks a name as the C library does."""
    if b"\0" in name:
        raise ValueError("embedded null byte")
    if not name or b"=" in name:
        raise ValueError("illegal environment variable name")


def reload_environ():
    data = os.environ._data
    data.clear()
    data.update(ENVIRONMENT)


def fork_exec(*args, real=__import__("_posixsubprocess").fork_exec):
    """Starts programs for `subprocess` and `multiprocessing`; the sixth argument is the environment, or None."""
    if len(args) > 5 and args[5] is None:
        environment = [name + b"=" + value for name, value in list(ENVIRONMENT.items())]
        args = (*args[:5], environment, *args[6:])
    return real(*args)


def execv(path, argv, /):
    return os.execve(path, argv, ENVIRONMENT.copy())


def posix_spawn(path, argv, env=None, /, *, real=os.posix_spawn, **options):
    return real(path, argv, ENVIRONMENT.copy() if env is None else env, **options)


def posix_spawnp(path, argv, env=None, /, *, real=os.posix_spawnp, **options):
    return real(path, argv, ENVIRONMENT.copy() if env is None else env, **options)


def system(command):
    sys.audit("os.system", command)
    process = os.posix_spawn("/bin/sh", ["sh", "-c", os.fsencode(command)], ENVIRONMENT.copy())
    return os.waitpid(process, 0)[1]
