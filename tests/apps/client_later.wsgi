"""Metrics by prometheus_client, which is imported after the bridge is switched on. Another script has one of them, too."""

import mod_wsgi

mod_wsgi.bridge_prometheus_client()
mod_wsgi.bridge_prometheus_client()

import prometheus_client  # noqa: E402

requests = prometheus_client.Counter("client_requests", "Requests.", ["path"])
reserved = prometheus_client.Counter("wsgi_reserved", "The server has none of this name, and takes none.")


def application(environ, start_response):
    requests.labels("later").inc()
    reserved.inc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [prometheus_client.generate_latest()]
