"""The URLs and views of the project."""

import hashlib
import json

from django.contrib import admin
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def home(request):
    return HttpResponse(f"Hello from Django at {request.get_full_path()}")


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def form(request):
    if request.method == "POST":
        return JsonResponse({"name": request.POST["name"]})
    return HttpResponse(get_token(request))


@csrf_exempt
def upload(request):
    file = request.FILES["file"]
    sha = hashlib.sha256()
    for block in file.chunks():
        sha.update(block)
    return JsonResponse({"size": file.size, "name": file.name, "sha256": sha.hexdigest()})


def stream(request):
    return StreamingHttpResponse((f"row {number}\n" for number in range(1000)), content_type="text/csv")


@csrf_exempt
def echo(request):
    return HttpResponse(json.dumps([request.method, request.body.decode(), request.META["CONTENT_LENGTH"]]))


def fails(request):
    raise ValueError("raised in a Django view")


urlpatterns = [
    path("", home),
    path("visits", visits),
    path("form", form),
    path("upload", upload),
    path("stream", stream),
    path("echo", echo),
    path("fails", fails),
    path("admin/", admin.site.urls),
]
