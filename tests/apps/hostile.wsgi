"""Breaks the connections between its process and httpd's children: `/<what>/<when>`, before or after the head of its
response. What it does to the connection of its own request it also does to those of all others."""

import os
import socket
import struct
import sys

CHUNK, FILE = 8, 10


def connections():
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with found:
            is_ours = found.family == socket.AF_UNIX and str(found.getsockname()).endswith(".sock")
            if is_ours and not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield found


def send(connection, frame, descriptors=()):
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
    connection.sendmsg([frame], beside if descriptors else [], socket.MSG_DONTWAIT)


def noise(connection):
    send(connection, os.urandom(3000))


def length(connection):
    send(connection, struct.pack("<IBB", 0xFFFF_FFFF, CHUNK, 0))


def short(connection):
    send(connection, struct.pack("<IBB", 1000, CHUNK, 0) + b"x" * 10)


def shut(connection):
    connection.shutdown(socket.SHUT_RDWR)


def deaf(connection):
    connection.shutdown(socket.SHUT_RD)


def device(connection):
    with open("/dev/zero", "rb") as zero:
        send(connection, struct.pack("<IBBQQ", 16, FILE, 0, 0, 1 << 40), [zero.fileno()])


def many(connection):
    with open(__file__, "rb") as file:
        send(connection, struct.pack("<IBBQQ", 16, FILE, 0, 0, 10), [file.fileno()] * 50)


def act(what):
    if what == "lines":
        for number in range(20_000):
            print("a line of the application", number, file=sys.stderr)
        return
    for connection in connections():
        try:
            globals()[what](connection)
        except OSError:
            pass


def application(environ, start_response):
    _, what, when = environ["PATH_INFO"].split("/")
    if when == "before":
        act(what)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "8")])
    yield b"four"
    if when == "after":
        act(what)
    yield b"more"
