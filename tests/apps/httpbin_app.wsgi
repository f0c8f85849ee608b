"""The httpbin package, unchanged."""

from httpbin import app as application  # noqa: F401
