"""A part of the site, which its script finds by python-path=."""

import sys


def page():
    return "My site, with the Python in %s\n" % sys.prefix
