"""Leaves work to a pool of threads, which does it after the response."""

import time
from concurrent.futures import ThreadPoolExecutor

POOL = ThreadPoolExecutor(1)


def work(path, number):
    time.sleep(0.01)
    with open(path, "a") as file:
        file.write(f"{number}\n")


def application(environ, start_response):
    path = environ["test.folder"] + environ["PATH_INFO"]
    for number in range(50):
        POOL.submit(work, path, number)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"queued"]
