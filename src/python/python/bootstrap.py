"""The part of the mod_wsgi module that need not be fast.

Executed once in each interpreter, with the dictionary of the `mod_wsgi` module as its globals. The other part
(mod_wsgi.Input, mod_wsgi.Log, mod_wsgi.Adapter) is native. Only the engine calls names that begin with an
underscore.
"""

__all__ = [
    "version",
    "process_group",
    "application_group",
    "maximum_processes",
    "threads_per_process",
    "FileWrapper",
    "RequestTimeout",
    "event_callbacks",
    "shutdown_callbacks",
    "signal_callbacks",
    "subscribe_events",
    "subscribe_shutdown",
    "subscribe_signals",
    "server_metrics",
]


class RequestTimeout(BaseException):
    """Raised in the thread of a request that has passed its time limit."""


class FileWrapper:
    """`wsgi.file_wrapper`: an iterable over a file. httpd sends the file itself if `read()` reads a regular file."""

    def __init__(self, filelike, blksize=8192):
        import operator

        blksize = operator.index(blksize)
        if blksize < 0:
            raise ValueError("blksize must be a non-negative integer")
        self.__filelike = filelike
        self.__blksize = blksize
        self.__closed = False

    @property
    def filelike(self):
        if self.__closed:
            raise ValueError("I/O operation on closed file")
        return self.__filelike

    @property
    def blksize(self):
        return self.__blksize

    def __iter__(self):
        if self.__closed:
            raise ValueError("I/O operation on closed file")
        return self

    def __next__(self):
        data = self.filelike.read(self.blksize)
        if not isinstance(data, bytes):
            raise TypeError(
                f"file like object yielded non-bytes value of type '{type(data).__name__}'"
            )
        if not data:
            raise StopIteration
        return data

    def close(self):
        if self.__closed:
            return
        filelike, self.__filelike, self.__closed = self.__filelike, None, True
        try:
            close = filelike.close
        except AttributeError:
            return
        try:
            close()
        except Exception:
            pass


class Restricted:
    """Replaces a standard stream that an application may not use."""

    def __init__(self, name):
        object.__setattr__(self, "_Restricted__name", name)

    def __getattribute__(self, attribute):
        if attribute == "__class__":
            return Restricted
        name = object.__getattribute__(self, "_Restricted__name")
        raise OSError(f"{name} access restricted by mod_wsgi")


event_callbacks = []
shutdown_callbacks = []
signal_callbacks = []


def subscribe_events(callback, /):
    """Registers a callback that is called as `callback(name, **payload)` at each event."""
    event_callbacks.append(callback)
    return callback


def subscribe_shutdown(callback, /):
    """Registers a callback that is called as `callback("process_stopping", **payload)` before the process ends."""
    shutdown_callbacks.append(callback)
    return callback


def subscribe_signals(callback, /):
    """Registers a callback that is called as `callback("process_signal", **payload)` when the process gets SIGHUP or SIGUSR2.

    Only a process of a process group gets these signals for its application.
    """
    signal_callbacks.append(callback)
    return callback


def server_metrics():
    """Returns None: the whole server is shown by `wsgi-status`, `wsgictl` and the metrics, and not to applications."""
    return None


def _log_refusal(log, line):
    """Logs that a registration is ignored, and where the application has made it."""
    import traceback

    log(line)
    # Without this function and the one that refuses.
    for line in "".join(traceback.format_stack()[:-2]).rstrip("\n").split("\n"):
        log(line)


def _refuse_signals(log):
    """Makes `subscribe_signals` say that no signal will come, in a process that gets none for its application."""
    import functools

    @functools.wraps(subscribe_signals)
    def refuse(callback, /):
        _log_refusal(log, "Callback registration for process signals ignored.")
        return callback

    globals()["subscribe_signals"] = refuse


def _signal(number):
    """Publishes `process_signal`. Returns a list of the exceptions that subscribers raised."""
    import signal

    return _publish("process_signal", {"signame": signal.Signals(number).name, "signum": number})


def _publish(name, payload):
    """Calls the subscribers in order. Returns a list of the exceptions that they raised."""
    callbacks = list(event_callbacks)
    if name == "process_stopping":
        callbacks += shutdown_callbacks
    elif name == "process_signal":
        callbacks += signal_callbacks
    failures = []
    for callback in callbacks:
        try:
            result = callback(name, **payload)
            if isinstance(result, dict):
                payload.update(result)
        except BaseException as exception:
            failures.append(exception)
    return failures


def _format(exception):
    """Returns the lines of a traceback, without line ends."""
    import traceback

    text = traceback.format_exception(type(exception), exception, exception.__traceback__)
    return "".join(text).rstrip("\n").split("\n")


_REFUSALS = (
    # Cython, PyO3 (two releases), numpy, and CPython itself for a module that does not declare its support.
    "Interpreter change detected",
    "PyO3 modules do not yet support subinterpreters",
    "may only be initialized once per interpreter process",
    "cannot load module more than once per process",
    "does not support loading in subinterpreters",
)


def _refusal(exception):
    """Returns the package and the module that refused to be imported into this interpreter, or None."""
    found, seen, links = None, set(), [exception]
    while links and len(seen) < 32:
        error = links.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        text = error.msg if isinstance(error, ImportError) else None
        if isinstance(text, str) and any(refusal in text for refusal in _REFUSALS):
            # The last match in the chain counts: exceptions raised from it may quote its text.
            found = error
        links += [link for link in (error.__context__, error.__cause__) if link is not None]
    return found and _what_was_imported(found)


def _what_was_imported(error):
    """Returns package and module for an ImportError that may name neither."""
    frame, at, module = None, -1, None
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in ("importlib", "_frozen_importlib", "_frozen_importlib_external"):
            frame, at, module = trace.tb_frame, trace.tb_lasti, None
        elif trace.tb_frame.f_code.co_name == "_find_and_load":
            module = trace.tb_frame.f_locals.get("name")
        trace = trace.tb_next
    # The script itself belongs to no package.
    place = frame.f_globals.get("__name__", "") if frame else ""
    if place.startswith("_mod_wsgi_"):
        place = ""
    words = error.msg.split()
    if words[0] == "module" and words[2:4] == ["does", "not"]:
        module = words[1]
    module = module or error.name or (frame and _imported_at(frame, at)) or place or "?"
    package = module.partition(".")[0]
    if package.startswith("_") and place:
        # For example `_yaml`, which is part of `yaml`.
        package = place.partition(".")[0]
    return package, module


def _imported_at(frame, at):
    """Returns the module that the import statement asks for which the frame is executing at offset `at`."""
    import dis
    import sys

    before = []
    for step in dis.get_instructions(frame.f_code):
        if step.offset == at:
            break
        before.append(step)
    else:
        return None
    if step.opname != "IMPORT_NAME":
        return None
    level, names = [step.argval for step in before if step.opname != "EXTENDED_ARG"][-2:]
    module = step.argval
    if level:
        package = frame.f_globals.get("__package__") or ""
        parts = package.split(".")
        module = ".".join(parts[: len(parts) - level + 1] + ([module] if module else []))
    # For `from package import module`, the module that the package does not have.
    if names and module in sys.modules:
        missing = [name for name in names if name != "*" and not hasattr(sys.modules[module], name)]
        module = ".".join([module, *missing[:1]])
    return module


def _stream(log):
    """Returns a text stream over a mod_wsgi.Log."""
    import io

    return io.TextIOWrapper(
        log, encoding="utf-8", errors="replace", newline=None, line_buffering=True, write_through=True
    )


def _add_site_directories(directories):
    """Adds the directories of WSGIPythonPath: reads `.pth` files, and moves new entries to the front, in order."""
    import site
    import sys

    before = list(sys.path)
    for directory in directories:
        site.addsitedir(directory)
    new = [entry for entry in sys.path if entry not in before]
    sys.path[:] = new + [entry for entry in sys.path if entry not in new]


def _intercept_signals(log):
    """Keeps the application from handling signals in httpd's process; processes that it forks may handle theirs."""
    import functools
    import os
    import signal

    owner = os.getpid()
    real = signal.signal

    @functools.wraps(real)
    def intercept(signum, handler):
        if os.getpid() != owner:
            return real(signum, handler)
        _log_refusal(log, f"Callback registration for signal {int(signum)} ignored.")
        return handler

    signal.signal = intercept


def _end_on_signals():
    """Makes the scripts of a process that serves no requests end by SystemExit when it is told to end.

    Both httpd and the supervisor may tell it. Only the first signal counts: another one would raise SystemExit in the
    middle of what the script, or `atexit`, does at its end.
    """
    import signal
    import sys

    has_ended = False

    def end(signum, frame):
        nonlocal has_ended
        if not has_ended:
            has_ended = True
            sys.exit()

    try:
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, end)
    except ValueError:
        # Only the main interpreter handles signals.
        pass


def _start_programs_with_open_signals():
    """Unblocks signals for the programs that `subprocess` and `multiprocessing` start.

    A program inherits blocked signals from the thread that starts it, and httpd blocks all in its request threads.
    """
    import functools
    import os
    import signal
    import sys

    import _posixsubprocess

    owner = os.getpid()
    real = _posixsubprocess.fork_exec

    @functools.wraps(real)
    def fork_exec(*args):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        # httpd blocks all or none, and `multiprocessing` unblocks some; in a forked process the application decides.
        if signal.SIGHUP not in blocked or os.getpid() != owner:
            return real(*args)
        # A pending signal stays blocked: it is for httpd's main thread, to which the kernel delivers signals.
        # SIGCHLD is pending as soon as one program has ended, and means nothing to httpd.
        opened = blocked - (signal.sigpending() - {signal.SIGCHLD})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, opened)
        try:
            return real(*args)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, opened)

    _posixsubprocess.fork_exec = fork_exec
    # If `subprocess` was imported already.
    subprocess = sys.modules.get("subprocess")
    if hasattr(subprocess, "_fork_exec"):
        subprocess._fork_exec = fork_exec


def _set_up(options, stdout_log, stderr_log, log):
    """Prepares a new interpreter. `options` is a dict made by the engine."""
    import os
    import sys
    import threading  # noqa: F401  the thread that sets up is the main one for Python
    import traceback  # noqa: F401  needed when something fails, and then is a bad time to import

    if options["switch_interval"]:
        sys.setswitchinterval(options["switch_interval"])
    sys.stderr = _stream(stderr_log)
    if not options["single_process"]:
        if options["restrict_stdout"]:
            sys.stdout = Restricted("sys.stdout")
        else:
            sys.stdout = _stream(stdout_log)
        if options["restrict_stdin"]:
            sys.stdin = Restricted("sys.stdin")
    sys.argv = ["mod_wsgi"]
    if options["restrict_signal"]:
        _intercept_signals(log)
    if not options["gets_signals"]:
        _refuse_signals(log)
    _start_programs_with_open_signals()
    if options["python_eggs"]:
        os.environ["PYTHON_EGG_CACHE"] = options["python_eggs"]
    for layer in options["python_path"]:
        _add_site_directories(layer)
    _find_package()
    _make_apache_module(options)
    if options["prometheus_client"]:
        bridge_prometheus_client()


def _watch_gil(notice):
    """Calls `notice` with the name of a module that switches the GIL of a free-threaded Python on, from the warning."""
    import functools
    import warnings

    real = warnings.showwarning

    @functools.wraps(real)
    def show(message, category, *args, **kwargs):
        before, found, rest = str(message).partition("has been enabled to load module '")
        if found and issubclass(category, RuntimeWarning):
            notice(rest.partition("'")[0])
        else:
            real(message, category, *args, **kwargs)

    warnings.showwarning = show


def _watch_collector(callback):
    """Has `callback` called at every garbage collection."""
    import gc

    gc.callbacks.append(callback)


def _gauges():
    """Returns the numbers of memory blocks and threads, and how near each generation is to its collection."""
    import gc
    import sys
    import threading

    return (sys.getallocatedblocks(), threading.active_count(), *gc.get_count())


def _find_package():
    """Lets `import mod_wsgi.express` and the like find the PyPI package, if it is installed."""
    import importlib.machinery

    try:
        spec = importlib.machinery.PathFinder.find_spec("mod_wsgi")
    except Exception:
        spec = None
    if spec is not None and spec.submodule_search_locations:
        globals()["__path__"] = list(spec.submodule_search_locations)


def _make_apache_module(options):
    """Makes the `apache` module of mod_wsgi, or extends an importable module of that name."""
    import importlib.util
    import sys
    import types

    module = None
    try:
        if importlib.util.find_spec("apache") is not None:
            import apache as module
    except Exception:
        module = None
    if module is None:
        module = types.ModuleType("apache")
        sys.modules["apache"] = module
    for name, value in options["apache"].items():
        setattr(module, name, value)


def _waited_for():
    """Returns the threads that the end of the process waits for: all others that are not daemons."""
    import threading

    own = (threading.main_thread(), threading.current_thread())
    return [thread for thread in threading.enumerate() if not (thread.daemon or thread in own)]


def _thread_names():
    """Returns the names of the threads that the end of the process waits for."""
    return [thread.name for thread in _waited_for()]


def _end_threads(seconds):
    """Waits at most `seconds` for pools to finish their tasks, and for threads that are not daemons to end.

    `threading` does this at the end of the main thread. Its functions may wait without end, so a daemon calls them.
    """
    import threading
    import time

    until = time.monotonic() + seconds
    failures = []

    def end_pools():
        functions = getattr(threading, "_threading_atexits", [])
        while functions:
            try:
                functions.pop()()
            except BaseException as exception:
                failures.append(exception)

    threads = _waited_for()
    pools = threading.Thread(target=end_pools, name="wsgi-end-pools", daemon=True)
    try:
        pools.start()
        threads.append(pools)
    except RuntimeError:
        # No thread could be started.
        end_pools()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return failures


def _run_exit_functions():
    """Runs the functions of `atexit`. Returns a list of the exceptions that it raised."""
    import atexit

    try:
        atexit._run_exitfuncs()
    except BaseException as exception:
        return [exception]
    return []


def _flush():
    """Flushes the standard streams."""
    import sys

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _end_copy(exception, seconds):
    """Does in a forked copy of the process what Python does before a program ends. Returns the exit status.

    `exception` is the exception with which the copy has left the application, or None.
    """
    import sys
    import traceback

    code = exception
    if isinstance(exception, SystemExit):
        code = exception.code
        if not (code is None or isinstance(code, int)):
            print(code, file=sys.stderr)
    failures = _end_threads(seconds) + _run_exit_functions()
    for failure in failures:
        if not isinstance(failure, SystemExit):
            traceback.print_exception(type(failure), failure, failure.__traceback__)
    _flush()
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1
