"""Settings of the example. The application writes to one folder, $GUESTBOOK_DATA or ./data."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("GUESTBOOK_DATA", BASE_DIR / "data"))

# `manage.py prepare` makes the key once for each installation; it is never in the repository.
_key_file = DATA / "secret-key"
SECRET_KEY = _key_file.read_text().strip() if _key_file.exists() else ""

DEBUG = False
ALLOWED_HOSTS = os.environ.get("GUESTBOOK_HOSTS", "127.0.0.1,localhost,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "notes",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "guestbook.urls"
WSGI_APPLICATION = "guestbook.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "db.sqlite3",
        # Several processes write; they wait for each other instead of failing.
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

# These files are collected once; httpd serves them without Python.
STATIC_URL = "/static/"
STATIC_ROOT = os.environ.get("GUESTBOOK_STATIC", BASE_DIR / "static-files")

MEDIA_ROOT = DATA / "uploads"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"error-log": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["error-log"], "level": "WARNING"},
}
