"""Makes the database: `python manage.py migrate`."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "site_for_tests.settings"
execute_from_command_line(sys.argv)
