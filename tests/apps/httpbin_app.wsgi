"""The httpbin package as it is."""

from httpbin import app as application  # noqa: F401
