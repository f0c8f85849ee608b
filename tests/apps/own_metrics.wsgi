"""Metrics by mod_wsgi's own functions. Every request answers with its process."""

import os
import threading
import time

import mod_wsgi

orders = mod_wsgi.counter("app_orders_total", "Orders taken.", labels=["kind"])
children = mod_wsgi.gauge("app_children", "Children that have served.")
newest = mod_wsgi.gauge("app_newest_process", "The greatest number of a process.", aggregate="max")
waits = mod_wsgi.histogram("app_wait_seconds", "How long it took.", buckets=[0.001, 1, 60])


def application(environ, start_response):
    with waits.time():
        time.sleep(0.02)
    orders.labels(environ["PATH_INFO"]).inc()
    # Threads that the application has started count, too.
    thread = threading.Thread(target=orders.labels("thread").inc)
    thread.start()
    thread.join()
    children.set(1)
    newest.set(os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
