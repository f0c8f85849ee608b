"""Three pages: a form with a database behind it, an upload, and a streaming response."""

import hashlib
import time

from django.contrib import messages
from django.http import StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from .forms import NoteForm, UploadForm
from .models import Note, Upload


@require_http_methods(["GET", "HEAD", "POST"])
def index(request):
    form = NoteForm(request.POST or None, initial={"author": request.session.get("author", "")})
    if request.method == "POST" and form.is_valid():
        note = form.save()
        request.session["author"] = note.author
        messages.success(request, "Thank you for your note.")
        return redirect("notes:index")
    return render(request, "notes/index.html", {"form": form, "notes": Note.objects.all()[:50]})


@require_http_methods(["GET", "HEAD", "POST"])
def upload(request):
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        checksum = hashlib.sha256()
        for chunk in file.chunks():
            checksum.update(chunk)
        Upload.objects.create(file=file, size=file.size, sha256=checksum.hexdigest())
        messages.success(request, f"{file.name}: {file.size} bytes.")
        return redirect("notes:upload")
    return render(request, "notes/upload.html", {"form": form, "uploads": Upload.objects.all()[:20]})


@require_GET
def stream(request):
    """Ten lines, a fifth of a second apart: try it with `curl -N`."""

    def lines():
        for number in range(1, 11):
            yield f"line {number} of 10\n"
            time.sleep(0.2)

    return StreamingHttpResponse(lines(), content_type="text/plain; charset=utf-8")
