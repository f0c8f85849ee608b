"""A Django application that imports packages with compiled parts, with which people have problems."""

import cryptography.hazmat.primitives.ciphers
import django
import lxml.etree
import numpy
import pydantic
import sqlalchemy
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="only for tests")


class Point(pydantic.BaseModel):
    x: int


def answer(request):
    table = sqlalchemy.table("points", sqlalchemy.column("x"))
    return JsonResponse({
        "numpy": int(numpy.arange(5).sum()),
        "pydantic": Point(x="3").x,
        "sqlalchemy": str(sqlalchemy.select(table.c.x)),
        "lxml": lxml.etree.fromstring("<a><b/></a>")[0].tag,
        "cryptography": cryptography.hazmat.primitives.ciphers.algorithms.AES(bytes(16)).key_size,
        "replica": request.environ.get("mod_wsgi.replica"),
    })


urlpatterns = [path("", answer)]
application = get_wsgi_application()
