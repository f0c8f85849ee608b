"""Keeps the values of prometheus_client in the server's segment.

Executed once in an interpreter, with separate globals, if an application or the configuration asks for it.
prometheus_client makes each value with `prometheus_client.values.ValueClass`. That class is replaced: at once if the
module was imported, or else at its import, so that applications with their own module search path are covered, too.
"""

import sys

MODULE = "prometheus_client.values"


def bridge(sample):
    """`sample(kind, metric, name, labels, values, help, mode)` makes the holder of a value, or raises ValueError."""
    if MODULE in sys.modules:
        # The import waits for another thread that is importing the module.
        import prometheus_client
        from prometheus_client import values

        replace(values, sample)
        for collector in list(prometheus_client.REGISTRY._collector_to_names):
            move(collector, values.ValueClass)
    else:
        sys.meta_path.insert(0, Finder(sample))


def replace(values, sample):
    """Replaces the class in the module `prometheus_client.values`."""
    local = values.ValueClass
    refused = set()

    class ServerValue:
        """A value that all children count together. Exemplars are not kept."""

        _multiprocess = True

        __slots__ = ("inc", "get", "_set")

        def __init__(
            self, typ, metric_name, name, labelnames, labelvalues, help_text, multiprocess_mode="", **kwargs
        ):
            try:
                value = sample(
                    typ, metric_name, name, labelnames, labelvalues, help_text or "", multiprocess_mode or ""
                )
            except (TypeError, ValueError) as error:
                # The application must not fail: it worked with this metric before.
                if metric_name not in refused and len(refused) < 100:
                    refused.add(metric_name)
                    print(f"The metric {metric_name!r} is not shown by the server: {error}", file=sys.stderr)
                value = local(
                    typ, metric_name, name, labelnames, labelvalues, help_text,
                    multiprocess_mode=multiprocess_mode, **kwargs
                )
            self.inc = value.inc
            self.get = value.get
            self._set = value.set

        def set(self, value, timestamp=None):
            self._set(value)

        def set_exemplar(self, exemplar):
            pass

        def get_exemplar(self):
            return None

    values.ValueClass = ServerValue


def move(collector, value_class):
    """Makes a metric that is registered already count in the server, and carries its counts over."""
    import prometheus_client as client

    if not isinstance(collector, (client.Counter, client.Gauge, client.Summary, client.Histogram)):
        return
    metrics = [collector]
    if collector._is_parent():
        with collector._lock:
            metrics = list(collector._metrics.values())
    for metric in metrics:
        before = values_of(metric)
        if any(isinstance(value, value_class) for value in before):
            continue
        # A twin is prepared first, because other threads may be counting.
        twin = object.__new__(type(metric))
        twin.__dict__.update(metric.__dict__)
        twin._metric_init()
        after = values_of(twin)
        names = ("_value", "_count", "_sum", "_buckets")
        vars(metric).update({name: vars(twin)[name] for name in names if name in vars(twin)})
        for old, new in zip(before, after):
            value = old.get()
            if value and isinstance(metric, client.Gauge):
                new.set(value)
            elif value:
                new.inc(value)


def values_of(metric):
    """Returns the values in which a metric counts that has no labels, or one set of label values."""
    single = [vars(metric)[name] for name in ("_value", "_count", "_sum") if name in vars(metric)]
    return single + vars(metric).get("_buckets", [])


class Finder:
    """Catches the import of the module, as the first finder on `sys.meta_path`."""

    def __init__(self, sample):
        self.sample = sample

    def find_spec(self, name, path=None, target=None):
        if name != MODULE:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = Loader(spec.loader, self.sample)
                return spec
        return None


class Loader:
    """Loads the module as its own loader does, and replaces the class before any code can use the module."""

    def __init__(self, loader, sample):
        self.loader = loader
        self.sample = sample

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        replace(module, self.sample)
