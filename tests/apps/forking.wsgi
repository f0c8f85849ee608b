"""Processes that an application forks; the path chooses where and how they return. Each writes a file into the folder that
the environ names: its process number, and what it found."""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

TEXT = [("Content-Type", "text/plain")]
CHILD = os.getpid()
FOLDER = None


@atexit.register
def at_exit():
    if os.getpid() != CHILD and FOLDER:
        note("atexit")


def note(what):
    """Writes a file for each process, named by its number and a note."""
    with open(os.path.join(FOLDER, f"{os.getpid()}-{what}"), "w") as file:
        file.write(what)


def respond(start_response, text):
    start_response("200 OK", TEXT)
    return [text.encode()]


def sockets():
    """The network sockets that this process has open, by local port."""
    import socket

    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                address = one.getsockname()
        except OSError:
            continue
        if isinstance(address, tuple):
            found.append(address[1])
    return found


def fork():
    """Returns 0 in the new process, which has written a note."""
    pid = os.fork()
    if pid == 0:
        note("began")
    return pid


def status_of(pid):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


class Body:
    def __init__(self, step):
        self.step, self.pid, self.left = step, None, 2

    def fork(self, step):
        if step == self.step:
            self.pid = fork()

    def __iter__(self):
        self.fork("iter")
        return self

    def __next__(self):
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        if self.left == 1:
            self.fork("next")
            return b"a" * 10
        if self.pid is None:
            return b"b"
        return f" {status_of(self.pid)}".encode()

    def close(self):
        if self.step == "close":
            self.pid = fork()
            if self.pid:
                with open(os.path.join(FOLDER, "close"), "w") as file:
                    file.write(str(status_of(self.pid)))


def application(environ, start_response):
    global FOLDER
    FOLDER = environ["test.folder"]
    case = environ["PATH_INFO"].strip("/")
    query = environ["QUERY_STRING"]
    if case == "pid":
        return respond(start_response, str(os.getpid()))
    if case in ("iter", "next", "close"):
        start_response("200 OK", TEXT)
        return Body(case)
    if case == "generator":
        start_response("200 OK", TEXT)
        return generator()
    if case == "import":
        sys.path.insert(0, FOLDER)
        with open(os.path.join(FOLDER, "forks_at_import.py"), "w") as file:
            file.write("import os\nPID = os.fork()\n")
        import forks_at_import

        if forks_at_import.PID == 0:
            note("began")
            return respond(start_response, "from the copy")
        return respond(start_response, str(status_of(forks_at_import.PID)))
    if case == "write":
        write = start_response("200 OK", TEXT)
        write(b"first ")
        pid = fork()
        if pid == 0:
            try:
                write(b"from the copy")
            except RuntimeError as error:
                note("refused" if "forked" in str(error) else "other")
            return [b"from the copy"]
        write(str(status_of(pid)).encode())
        return []
    if case == "input":
        pid = fork()
        if pid == 0:
            try:
                environ["wsgi.input"].read()
            except RuntimeError as error:
                note("refused" if "forked" in str(error) else "other")
            return respond(start_response, "from the copy")
        status = status_of(pid)
        return respond(start_response, f"{status} {len(environ['wsgi.input'].read())}")
    if case == "thread":
        # The copy has only this thread, which ends.
        pids = []
        thread = threading.Thread(target=lambda: pids.append(fork()))
        thread.start()
        thread.join()
        return respond(start_response, str(status_of(pids[0])))
    if case == "threads":
        # The copy starts a thread that goes on, and returns.
        pid = fork()
        if pid == 0:
            threading.Thread(target=lambda: (time.sleep(0.3), note("thread")), daemon=False).start()
            return respond(start_response, "from the copy")
        return respond(start_response, str(status_of(pid)))
    if case == "twice":
        pid = fork()
        if pid == 0:
            inner = fork()
            if inner:
                note(f"inner={status_of(inner)}")
            return respond(start_response, "from the copy")
        return respond(start_response, str(status_of(pid)))
    if case == "multiprocessing":
        import multiprocessing

        context = multiprocessing.get_context(query)
        if query == "fork":
            with context.Pool(2) as pool:
                return respond(start_response, str(pool.map(abs, [-1, -2])))
        process = context.Process(target=time.sleep, args=(0,))
        process.start()
        process.join(20)
        return respond(start_response, str(process.exitcode))
    if case == "terminate":
        import multiprocessing

        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join(20)
        return respond(start_response, str(process.exitcode))
    if case == "subprocess":
        options = {"vfork": {}, "fork": {"preexec_fn": os.getpid}, "open": {"close_fds": False}}[query]
        program = subprocess.Popen(["sleep", "600"], **options)
        listening = [name for name in descriptors(program.pid) if is_listener(program.pid, name)]
        program.terminate()
        try:
            status = program.wait(20)
        except subprocess.TimeoutExpired:
            program.kill()
            status = "blocked"
        return respond(start_response, f"{status} {listening}")
    if case == "daemon":
        # Like a daemon: a grandchild in its own session, which goes on when all others have ended.
        reading, writing = os.pipe()
        pid = fork()
        if pid == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.write(writing, f"{os.getpid()} {sockets()}".encode())
            os.close(writing)
            time.sleep(600)
            os._exit(0)
        os.close(writing)
        status_of(pid)
        with open(reading, "rb") as pipe:
            return respond(start_response, pipe.read().decode())
    if case == "own_socket":
        # Files that the application has opened itself stay open in the copy.
        import socket

        ours, theirs = socket.socketpair()
        listener = socket.create_server(("127.0.0.1", 0))
        pid = fork()
        if pid == 0:
            there = listener.getsockname()[1] in sockets()
            theirs.sendall(f"{there} {int(environ['SERVER_PORT']) in sockets()}".encode())
            os._exit(0)
        status = status_of(pid)
        return respond(start_response, f"{status} {ours.recv(100).decode()}")
    if case == "print":
        pid = fork()
        if pid == 0:
            print("said by the copy")
            print("complained by the copy", file=environ["wsgi.errors"])
            return respond(start_response, "from the copy")
        return respond(start_response, str(status_of(pid)))
    if case == "many":
        pids = [fork_and_return(start_response) for _ in range(8)]
        if None in pids:
            return respond(start_response, "from the copy")
        return respond(start_response, str({status_of(pid) for pid in pids}))
    if case.startswith("dies"):
        query = query.partition("&")[0]
        if query == "segfault":
            ctypes.string_at(0)
        if query == "exit":
            os._exit(3)
        os.kill(os.getpid(), getattr(signal, query))
        time.sleep(600)
    # The ways in which a copy may return: the query names the result.
    pid = fork()
    if pid == 0:
        if case == "exit":
            sys.exit(eval(query))
        if case == "raise":
            raise ValueError("raised by the copy")
        if case == "_exit":
            os._exit(5)
        if case == "executed":
            os.execv("/bin/sh", ["sh", "-c", "exit 6"])
        if case == "slow_atexit":
            atexit.register(time.sleep, 600)
        return respond(start_response, "from the copy")
    return respond(start_response, str(status_of(pid)))


def fork_and_return(start_response):
    return fork() or None


def generator():
    try:
        yield b"begun "
        pid = fork()
        if pid == 0:
            yield b"from the copy"
        yield str(status_of(pid)).encode()
    finally:
        if FOLDER and os.getpid() != CHILD:
            note("finally")


def descriptors(pid):
    """The kernel shows the descriptors of another program a moment after it has begun."""
    until = time.monotonic() + 20
    while True:
        try:
            return os.listdir(f"/proc/{pid}/fd")
        except PermissionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def is_listener(pid, name):
    """Whether a descriptor of another process is a listening socket."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        return False
    if not target.startswith("socket:["):
        return False
    inode = target[len("socket:[") : -1]
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            for line in file:
                fields = line.split()
                if len(fields) > 9 and fields[9] == inode and fields[3] == "0A":
                    return True
    return False
