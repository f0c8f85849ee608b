//! The applications' own metrics: the objects in Python, and their values in the segment.

use wsgi_telemetry::{Format, render};

use super::{Script, ask, segment};

/// Returns the lines of a scrape that name a metric.
fn scraped(name: &str) -> String {
    let mut page = String::new();
    render(&segment().snapshot(), Format::Text, &mut page);
    let lines = page.lines().filter(|line| line.contains(name));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Runs statements in an application of the group, with `mod_wsgi` imported.
fn run_in(group: &str, statements: &str) -> String {
    let source = format!("import mod_wsgi\n{statements}\nreturn respond(start_response, 'done')");
    Script::app(&source).request().group(group).text()
}

fn run(statements: &str) {
    assert_eq!(run_in("", statements), "done");
}

#[test]
fn a_counter_counts() {
    run("counter = mod_wsgi.counter('t_orders', 'Orders.')\n\
         counter.inc()\n\
         counter.inc(2)\n\
         counter.inc(0.5)\n\
         assert mod_wsgi.counter('t_orders_total') is counter");
    assert_eq!(
        scraped("t_orders"),
        "# HELP t_orders_total Orders.\n# TYPE t_orders_total counter\nt_orders_total 3.5\n"
    );
}

#[test]
fn all_threads_count_in_one() {
    run("import threading\n\
         counter = mod_wsgi.counter('t_threads')\n\
         gauge = mod_wsgi.gauge('t_thread_gauge')\n\
         def work():\n\
         \x20   for _ in range(1000):\n\
         \x20       counter.inc()\n\
         \x20       gauge.inc()\n\
         threads = [threading.Thread(target=work) for _ in range(8)]\n\
         for thread in threads: thread.start()\n\
         for thread in threads: thread.join()\n\
         work()");
    assert!(scraped("t_threads_total").contains("\nt_threads_total 9000\n"));
    assert!(scraped("t_thread_gauge").contains("\nt_thread_gauge 9000\n"));
}

#[test]
fn a_gauge_goes_up_and_down() {
    run(
        "gauge = mod_wsgi.gauge('t_queue', 'Waiting.', aggregate='max')\n\
         gauge.set(10)\n\
         gauge.inc()\n\
         gauge.dec(4)\n\
         assert mod_wsgi.gauge('t_queue', aggregate='max') is gauge\n\
         mod_wsgi.gauge('t_unset')",
    );
    assert_eq!(
        scraped("t_queue"),
        "# HELP t_queue Waiting.\n# TYPE t_queue gauge\nt_queue 7\n"
    );
    assert!(!scraped("t_unset").contains("\nt_unset "));
}

#[test]
fn a_histogram_has_buckets_and_times() {
    run("import time\n\
         sizes = mod_wsgi.histogram('t_sizes', buckets=(1, 2.5, float('inf')))\n\
         for value in (0.5, 1, 2, 100): sizes.observe(value)\n\
         times = mod_wsgi.histogram('t_times')\n\
         with times.time(): time.sleep(0.03)\n\
         @times.time()\n\
         def work(a, b=1):\n\
         \x20   'Works.'\n\
         \x20   time.sleep(0.03)\n\
         \x20   return a + b\n\
         assert work(1, b=2) == 3 and work.__doc__ == 'Works.'\n\
         try:\n\
         \x20   with times.time(): 1 / 0\n\
         except ZeroDivisionError: pass");
    let sizes = scraped("t_sizes");
    for line in [
        "# TYPE t_sizes histogram",
        "t_sizes_bucket{le=\"1.0\"} 2",
        "t_sizes_bucket{le=\"2.5\"} 3",
        "t_sizes_bucket{le=\"+Inf\"} 4",
        "t_sizes_sum 103.5",
        "t_sizes_count 4",
    ] {
        assert!(
            sizes.lines().any(|found| found == line),
            "{line} in\n{sizes}"
        );
    }
    let times = scraped("t_times");
    for line in [
        "t_times_bucket{le=\"0.005\"} 1",
        "t_times_bucket{le=\"10.0\"} 3",
    ] {
        assert!(
            times.lines().any(|found| found == line),
            "{line} in\n{times}"
        );
    }
}

#[test]
fn labels_make_series() {
    run(
        "pages = mod_wsgi.counter('t_pages', 'Pages.', labels=['kind', 'size'])\n\
         pages.labels('html', 1).inc()\n\
         pages.labels(size='1', kind='html').inc()\n\
         pages.labels('a \"b\" \\\\ \\n c', 2).inc(7)\n\
         assert pages.labels('html', 1) is pages.labels(size=1, kind='html')\n\
         assert mod_wsgi.counter('t_pages', labels=('kind', 'size')) is pages",
    );
    let pages = scraped("t_pages_total");
    for line in [
        "t_pages_total{kind=\"html\",size=\"1\"} 2",
        "t_pages_total{kind=\"a \\\"b\\\" \\\\ \\n c\",size=\"2\"} 7",
    ] {
        assert!(
            pages.lines().any(|found| found == line),
            "{line} in\n{pages}"
        );
    }
}

#[test]
fn interpreters_of_one_server_share_a_metric() {
    for group in ["", "metrics-a", "metrics-b"] {
        let statements = "mod_wsgi.counter('t_shared', labels=['of']).labels('all').inc()";
        assert_eq!(run_in(group, statements), "done");
    }
    assert!(scraped("t_shared").contains("t_shared_total{of=\"all\"} 3\n"));
}

#[test]
fn what_cannot_be_is_refused() {
    run("mod_wsgi.counter('t_known')\nmod_wsgi.counter('t_labelled', labels=['a', 'b'])");
    for (expression, error) in [
        ("counter('1x')", "ValueError: \"1x\" is no name of a metric"),
        ("counter('')", "ValueError: \"\" is no name of a metric"),
        (
            "counter('wsgi_mine')",
            "ValueError: \"wsgi_mine\": names that begin with \"wsgi_\"",
        ),
        ("counter(1)", "TypeError: the name must be str, not int"),
        ("counter('t_help', 1)", "TypeError: the help must be str"),
        ("counter('t_x', labels='ab')", "TypeError: labels must be a"),
        (
            "counter('t_x', labels=[1])",
            "TypeError: the name of a label must be str",
        ),
        (
            "counter('t_x', labels=['__a'])",
            "ValueError: \"__a\" is no name of a label",
        ),
        (
            "counter('t_x', labels=['a', 'a'])",
            "ValueError: the label \"a\" is there twice",
        ),
        (
            "histogram('t_x', labels=['le'])",
            "ValueError: \"le\" is no name of a label",
        ),
        (
            "histogram('t_x', buckets=())",
            "ValueError: a histogram needs",
        ),
        (
            "histogram('t_x', buckets=(2, 1))",
            "ValueError: the upper bounds of",
        ),
        (
            "histogram('t_x', buckets=range(99))",
            "ValueError: the upper bounds of",
        ),
        (
            "gauge('t_x', aggregate='mean')",
            "ValueError: aggregate must be",
        ),
        (
            "gauge('t_known')",
            "ValueError: there is a metric 't_known' already",
        ),
        (
            "gauge('t_known_total')",
            "ValueError: the samples of \"t_known_total\" would be called as",
        ),
        (
            "counter('t_known', labels=['a'])",
            "ValueError: there is a metric 't_known' already",
        ),
        (
            "counter('t_known').inc(-1)",
            "ValueError: a counter only grows, and not by -1",
        ),
        (
            "counter('t_known').inc(float('nan'))",
            "ValueError: a counter only grows, and not by NaN",
        ),
        (
            "counter('t_known').inc('1')",
            "TypeError: must be real number, not str",
        ),
        (
            "counter('t_known').inc(1, 2)",
            "TypeError: inc() takes at most 1 argument",
        ),
        ("counter('t_known').set(1)", "AttributeError"),
        ("counter('t_known').labels()", "AttributeError"),
        (
            "counter('t_labelled', labels=['a', 'b']).inc()",
            "AttributeError",
        ),
        (
            "counter('t_labelled', labels=['a', 'b']).labels(1)",
            "ValueError: 1 values for the labels a, b",
        ),
        (
            "counter('t_labelled', labels=['a', 'b']).labels(a=1, c=2)",
            "ValueError: the labels are a, b, not a, c",
        ),
        (
            "counter('t_labelled', labels=['a', 'b']).labels(1, b=2)",
            "TypeError: give the label values by position or by name",
        ),
        ("gauge('t_g').set()", "TypeError: set() takes exactly 1"),
        (
            "histogram('t_h', buckets=[1]).observe(float('nan'))",
            "ValueError: an observation is a number",
        ),
        (
            "_family(1)",
            "TypeError: _family() takes exactly 5 arguments",
        ),
    ] {
        let answer = ask(&format!("__import__('mod_wsgi').{expression}"));
        assert!(answer.starts_with(error), "{expression}: {answer}");
    }
    assert!(!scraped("t_x").contains("t_x"));
    assert!(scraped("t_known").contains("t_known_total 0\n"));
}

#[test]
fn a_slot_is_the_childs_arena() {
    let slot: u32 = ask("__import__('mod_wsgi').slot_id()").parse().unwrap();
    assert_eq!(
        slot,
        wsgi_telemetry::writer::process().map_or(0, |arena| arena.index())
    );
    assert_ne!(slot, 0);
}

/// Counting, and looking up a series, leak nothing.
#[test]
fn nothing_leaks() {
    let script = Script::new(
        "import gc, mod_wsgi\n\
         text = 'value of its own'\n\
         amount = 1e9\n\
         counter = mod_wsgi.counter('t_leak', labels=['a'])\n\
         histogram = mod_wsgi.histogram('t_leak_seconds', buckets=[1])\n\
         def work():\n\
         \x20   for turn in range(50):\n\
         \x20       counter._children.clear()\n\
         \x20       counter.labels(text).inc(amount)\n\
         \x20       attempt(counter.labels(text).inc, text)\n\
         \x20       histogram.observe(amount)\n\
         \x20       with histogram.time(): pass\n\
         \x20       mod_wsgi.counter('t_leak', labels=['a'])\n\
         \x20       attempt(mod_wsgi.counter, 't leak')\n\
         def application(environ, start_response):\n\
         \x20   work()\n\
         \x20   gc.collect()\n\
         \x20   things = [text, amount, counter, histogram, type(histogram), mod_wsgi.Timer, mod_wsgi]\n\
         \x20   counts = [sys.getrefcount(thing) for thing in things]\n\
         \x20   return respond(start_response, f'{len(gc.get_objects())} {counts}')\n",
    );
    let count = || {
        let text = script.request().group("metric-leaks").text();
        let (objects, references) = text.split_once(' ').unwrap();
        (objects.parse::<i64>().unwrap(), references.to_owned())
    };
    count();
    let before = count();
    let mut after = count();
    for _ in 0..20 {
        after = count();
    }
    assert_eq!(before.1, after.1);
    assert!(
        (after.0 - before.0).abs() <= 5,
        "{before:?}, then {after:?}"
    );
}

/// Fills the table, and so runs in a separate process.
#[test]
fn where_no_room_is_left_the_totals_stay_right() {
    let this = std::env::current_exe().unwrap();
    let child = std::process::Command::new(this)
        .args(["--exact", "tests::metrics::overflow", "--ignored"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{told}");
    assert!(told.contains("1 passed"));
}

#[test]
#[ignore = "fills the table of series; run by where_no_room_is_left_the_totals_stay_right"]
fn overflow() {
    run("counter = mod_wsgi.counter('t_full', labels=['user'])\n\
         for turn in range(2):\n\
         \x20   for user in range(3000): counter.labels(user).inc()\n\
         assert len(counter._children) <= 1000\n\
         late = mod_wsgi.histogram('t_late', labels=['a'])\n\
         late.labels('x').observe(1)\n\
         for number in range(100): mod_wsgi.counter(f't_family_{number}').inc()");
    let lines = scraped("t_full_total{");
    let total: f64 = lines
        .lines()
        .map(|line| line.split_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert_eq!(total, 6000.0);
    assert!(lines.contains("t_full_total{user=\"0\"} 2\n"));
    assert!(lines.contains("t_full_total{user=\"_other\"}"));
    let overflows = scraped("wsgi_metrics_overflows_total{kind=\"series\"}");
    let (_, count) = overflows.trim().split_once(' ').unwrap();
    assert!(count.parse::<f64>().unwrap() > 100.0, "{overflows}");
}

/// Counting costs little more than any method call. Run it in a release build on an idle machine.
#[test]
#[ignore = "measures"]
fn costs() {
    let script = Script::app(
        "import mod_wsgi, timeit\n\
         names = {'n': 1, 'c': mod_wsgi.counter('t_cost'), 'g': mod_wsgi.gauge('t_cost_gauge'),\n\
         \x20   'h': mod_wsgi.histogram('t_cost_seconds'), 'l': mod_wsgi.counter('t_cost_labelled', labels=['a', 'b'])}\n\
         def cost(statement):\n\
         \x20   return min(timeit.repeat(statement, globals=names, number=200000, repeat=7)) / 200000 * 1e9\n\
         statements = ['n.conjugate()', 'c.inc()', 'g.inc()', 'g.set(5)', 'h.observe(0.3)', \"l.labels('x', 'y').inc()\"]\n\
         costs = {statement: cost(statement) for statement in statements}\n\
         print({statement: f'{cost:.0f} ns' for statement, cost in costs.items()}, file=environ['wsgi.errors'])\n\
         call = costs.pop('n.conjugate()')\n\
         costs.pop(statements[-1])\n\
         return respond(start_response, max(costs.values()) / call)",
    );
    let exchange = script.run();
    println!("{:?}", exchange.log);
    let ratio: f64 = exchange.text().parse().unwrap();
    assert!(ratio < 10.0, "{ratio} times a call");
}
