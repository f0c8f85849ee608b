"""Metrics by prometheus_client. `/own` answers with its own exposition; any other request answers with its process."""

import os
import time

import prometheus_client

# It exists before the bridge, which takes it over with its counts.
loads = prometheus_client.Counter("client_loads", "How often the script was loaded.")
loads.inc()

import mod_wsgi  # noqa: E402

mod_wsgi.bridge_prometheus_client()

requests = prometheus_client.Counter("client_requests", "Requests.", ["path"])
running = prometheus_client.Gauge("client_running", "Requests that run.", multiprocess_mode="livesum")
served = prometheus_client.Gauge("client_served", "1 in each child.")
seconds = prometheus_client.Histogram("client_seconds", "How long it took.", ["path"])
sizes = prometheus_client.Summary("client_sizes", "Sizes.")
prometheus_client.Info("client_build", "Of this child only.").info({"version": "1"})


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/own":
        start_response("200 OK", [("Content-Type", prometheus_client.CONTENT_TYPE_LATEST)])
        return [prometheus_client.generate_latest()]
    with running.track_inprogress(), seconds.labels(path).time():
        time.sleep(0.02)
    requests.labels(path=path).inc(exemplar={"trace_id": "abc"})
    served.set(1)
    sizes.observe(-2)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
