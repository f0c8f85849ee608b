"""Makes a fresh copy of this example ready to be served; quick when there is nothing to do."""

import os
import secrets

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Makes the secret key, the database and the static files."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--demo-user", metavar="NAME", help="an administrator whose password is the name")

    def handle(self, *args, demo_user=None, **options):
        self.make_secret_key()
        settings.MEDIA_ROOT.mkdir(parents=True, exist_ok=True)
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        if demo_user:
            self.make_demo_user(demo_user)

    def make_secret_key(self):
        if (settings.DATA / "secret-key").exists():
            return
        settings.DATA.mkdir(parents=True, exist_ok=True)
        settings.SECRET_KEY = secrets.token_urlsafe(50)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(settings.DATA / "secret-key", flags, 0o600), "w") as file:
            file.write(settings.SECRET_KEY)

    def make_demo_user(self, name):
        from django.contrib.auth import get_user_model

        users = get_user_model().objects
        if not users.filter(username=name).exists():
            users.create_superuser(name, password=name)
