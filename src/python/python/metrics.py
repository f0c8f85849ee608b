"""The applications' own metrics, which are shown with those of the server.

Executed once in each interpreter, after `bootstrap.py` and with the same globals. The objects that count are native.
"""

_DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# How many entries each cache of an interpreter keeps: as many as an interpreter could reasonably have.
_MOST_KEPT = 1000

__all__ += [
    "counter",
    "gauge",
    "histogram",
    "slot_id",
    "bridge_prometheus_client",
]


def counter(name, help="", labels=()):
    """A metric that only grows."""
    return _metric("counter", name, help, labels)


def gauge(name, help="", labels=(), aggregate="sum"):
    """A metric that goes up and down. The values of all children are shown as one: their sum, the greatest,
    or the least of them."""
    if aggregate not in ("sum", "max", "min"):
        raise ValueError(f"aggregate must be 'sum', 'max' or 'min', not {aggregate!r}")
    return _metric(f"gauge {aggregate}", name, help, labels)


def histogram(name, help="", labels=(), buckets=_DEFAULT_BUCKETS):
    """A metric of observations. Each bucket counts the observations that are not above its upper bound."""
    buckets = [float(bucket) for bucket in buckets]
    if buckets and buckets[-1] == float("inf"):
        # This bucket always exists.
        del buckets[-1]
    if not buckets:
        raise ValueError("a histogram needs at least one upper bound")
    return _metric("histogram", name, help, labels, buckets)


class LabelledMetric:
    """A metric with labels."""

    __slots__ = ("_family", "_names", "_children")

    def __init__(self, family, names):
        self._family = family
        self._names = names
        self._children = {}

    def labels(self, *values, **named):
        """Returns the metric with these label values, given in the order of the names, or by name."""
        names = self._names
        if named:
            if values:
                raise TypeError("give the label values by position or by name, not both")
            if named.keys() != set(names):
                raise ValueError(f"the labels are {', '.join(names)}, not {', '.join(named)}")
            values = [named[name] for name in names]
        elif len(values) != len(names):
            raise ValueError(f"{len(values)} values for the labels {', '.join(names)}")
        values = tuple(map(str, values))
        child = self._children.get(values)
        if child is None:
            child = self._family.child(*values)
            if len(self._children) >= _MOST_KEPT:
                # Only the cache is emptied: metrics are found again in the segment.
                self._children.clear()
            self._children[values] = child
        return child


class Timer:
    """Observes how many seconds a block takes, or each call of a function."""

    __slots__ = ("_histogram", "_since")

    def __init__(self, histogram):
        self._histogram = histogram

    def __enter__(self):
        self._since = _now()
        return self

    def __exit__(self, *_exception):
        self._histogram.observe(_now() - self._since)

    def __call__(self, function):
        import functools

        @functools.wraps(function)
        def timed(*args, **kwargs):
            with Timer(self._histogram):
                return function(*args, **kwargs)

        return timed


def _now():
    import time

    return time.perf_counter()


_metrics = {}


def _metric(kind, name, help, labels, buckets=()):
    """Returns the metric of this name, and makes it if there is none."""
    if not isinstance(name, str):
        raise TypeError(f"the name must be str, not {type(name).__name__}")
    if isinstance(labels, str):
        raise TypeError("labels must be a sequence of names, not a str")
    labels = tuple(labels)
    what = (kind, labels, tuple(buckets))
    key = name.removesuffix("_total") if kind == "counter" else name
    known = _metrics.get(key)
    if known is None:
        family = _family(kind, name, help, labels, buckets)
        known = (what, LabelledMetric(family, labels) if labels else family.child())
        if len(_metrics) < _MOST_KEPT:
            known = _metrics.setdefault(key, known)
    if known[0] != what:
        raise ValueError(f"there is a metric {name!r} already, of another kind or with other labels or bounds")
    return known[1]
