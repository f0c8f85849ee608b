"""The Django project, as `django-admin startproject` would have it served."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ["DJANGO_SETTINGS_MODULE"] = "site_for_tests.settings"


def application(environ, start_response):
    """Waits for the first request, whose environ says where the database is."""
    global application
    os.environ["TEST_DATABASE"] = environ["test.database"]
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()
    return application(environ, start_response)
