"""A Flask application: routing, JSON, a form, a session cookie, a streamed response, an error."""

from flask import Flask, Response, abort, jsonify, request, session

application = Flask(__name__)
application.secret_key = "only for tests"


@application.get("/hello/<name>")
def hello(name):
    return f"Hello {name}!"


@application.route("/json", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def echo():
    return jsonify(method=request.method, args=request.args, json=request.get_json(silent=True), root=request.root_path,
                   url=request.url)


@application.post("/form")
def form():
    return jsonify(form=request.form, files={name: len(file.read()) for name, file in request.files.items()})


@application.get("/visits")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


@application.get("/stream")
def stream():
    return Response((f"line {number}\n" for number in range(100)), mimetype="text/plain")


@application.get("/teapot")
def teapot():
    abort(418)
