//! What the engine counts. Each test has its own application in the segment that all tests share.

use std::time::Duration;

use wsgi_telemetry::catalogue::{
    EXCEPTION_PHASE, INTERPRETER_STATE, Id, RESULT, STREAM, TRIGGER, value,
};
use wsgi_telemetry::{App, Numbers, Owner};

use super::{Piece, Script, segment};

fn app(name: &str) -> App {
    let app = segment().application_named(name, [name, "", ""], Owner::of_this_process(0));
    assert_ne!(app, App::OTHER);
    app
}

fn numbers(app: App) -> Numbers {
    let snapshot = segment().snapshot();
    let mut known = snapshot.applications.into_iter();
    known
        .find(|numbers| numbers.application.app == app)
        .unwrap()
        .numbers
}

/// Returns how many observations there are, and their sum.
fn histogram(app: App, id: Id, series: usize) -> (u128, Duration) {
    let numbers = numbers(app);
    let (buckets, sum) = numbers.histogram(id, series);
    let sum = Duration::from_nanos(sum.try_into().unwrap());
    (buckets.iter().sum(), sum)
}

#[test]
fn a_small_request_waits_once_and_holds_once() {
    let app = app("small");
    let script = Script::app("return respond(start_response, 'x')");
    for _ in 0..3 {
        script.request().app(app).run();
    }
    // Loading the script releases the GIL once, to read it.
    assert_eq!(histogram(app, Id::GilWait, 0).0, 5);
    assert_eq!(histogram(app, Id::GilHeld, 0).0, 5);
    assert_eq!(histogram(app, Id::ApplicationDuration, 0).0, 3);
}

#[test]
fn time_in_the_application_has_neither_the_load_nor_the_reading_of_the_body() {
    let app = app("durations");
    let script = Script::new(
        "import time\ntime.sleep(0.3)\n\
         def application(environ, start_response):\n\
         \x20   environ['wsgi.input'].read()\n\
         \x20   time.sleep(0.05)\n\
         \x20   return respond(start_response, 'x')\n",
    );
    let wait = Box::new(|| std::thread::sleep(Duration::from_millis(300)));
    let body = [Piece::Wait(wait), Piece::text("data")];
    script.request().app(app).body(body).run();
    let (count, inside) = histogram(app, Id::ApplicationDuration, 0);
    assert_eq!(count, 1);
    assert!(inside >= Duration::from_millis(50), "{inside:?}");
    assert!(inside < Duration::from_millis(250), "{inside:?}");
    let (loads, load) = histogram(app, Id::ApplicationLoad, 0);
    assert_eq!(loads, 1);
    assert!(load >= Duration::from_millis(300), "{load:?}");
}

#[test]
fn a_wait_for_the_gil_is_seen() {
    let app = app("contended");
    let script = Script::app(
        "if environ.get('spin'):\n\
         \x20   end = __import__('time').monotonic() + 0.1\n\
         \x20   while __import__('time').monotonic() < end: pass\n\
         return respond(start_response, 'x')",
    );
    script.request().app(app).run();
    let waited = || histogram(app, Id::GilWait, 0).1;
    let before = waited();
    // A request that arrives while another one holds the GIL waits for the switch interval of 5 ms. It takes some tries
    // to arrive at the right moment.
    let seen = (0..50).any(|_| {
        std::thread::scope(|scope| {
            scope.spawn(|| script.request().app(app).literal(b"spin", Some(b"1")).run());
            std::thread::sleep(Duration::from_millis(20));
            script.request().app(app).run();
        });
        waited() - before >= Duration::from_millis(4)
    });
    assert!(seen, "{:?}", waited());
}

#[test]
fn exceptions_count_by_phase() {
    let app = app("exceptions");
    let script = Script::new(
        "def application(environ, start_response):\n\
         \x20   where = environ['where']\n\
         \x20   if where == 'call': raise KeyError(where)\n\
         \x20   start_response('200 OK', [])\n\
         \x20   return Failing(where)\n\
         class Failing:\n\
         \x20   def __init__(self, where): self.where = where\n\
         \x20   def __iter__(self):\n\
         \x20       yield b'x'\n\
         \x20       if self.where == 'iterate': raise KeyError(self.where)\n\
         \x20   def close(self):\n\
         \x20       if self.where == 'close': raise KeyError(self.where)\n",
    );
    for where_ in ["call", "iterate", "iterate", "close", "nowhere"] {
        let request = script.request().app(app);
        request.literal(b"where", Some(where_.as_bytes())).run();
    }
    let numbers = numbers(app);
    let count = |phase| numbers.counter(Id::Exceptions, value(EXCEPTION_PHASE, phase));
    assert_eq!((count("call"), count("iterate"), count("close")), (1, 2, 1));
    assert_eq!(numbers.counter(Id::ProtocolErrors, 0), 0);
}

#[test]
fn what_breaks_the_protocol_counts() {
    for (lines, errors) in [
        ("return respond(start_response, 'x')", 0),
        ("return [b'x']", 1),
        ("start_response('200 OK', [])\nreturn ['text']", 1),
        ("start_response('200 OK', ())\nreturn [b'x']", 1),
        ("start_response('200 OK', [('a', 1)])\nreturn [b'x']", 1),
        ("start_response(200, [])\nreturn [b'x']", 1),
        (
            "start_response('200 OK', [])\nstart_response('200 OK', [])\nreturn [b'x']",
            0,
        ),
        (
            "start_response('200 OK', [])(b'x')\nstart_response('200 OK', [])\nreturn []",
            1,
        ),
        (
            "start_response('200 OK', [('Content-Length', '9')])\nreturn [b'x']",
            1,
        ),
    ] {
        let app = app(&format!("protocol-{}", lines.len()));
        let before = numbers(app).counter(Id::ProtocolErrors, 0);
        Script::app(lines).request().app(app).run();
        let after = numbers(app).counter(Id::ProtocolErrors, 0);
        assert_eq!(after - before, errors, "{lines}");
    }
}

#[test]
fn lines_count_by_stream() {
    let app = app("lines");
    let script = Script::app(
        "print('one', file=environ['wsgi.errors'])\n\
         print('two', file=environ['wsgi.errors'])\n\
         for word in ('one', 'two', 'three'): print(word)\n\
         print('one', file=sys.stderr)\n\
         return respond(start_response, 'x')",
    );
    script.request().app(app).run();
    let numbers = numbers(app);
    let count = |stream| numbers.counter(Id::LogLines, value(STREAM, stream));
    assert_eq!(
        (count("errors"), count("stdout"), count("stderr")),
        (2, 3, 1)
    );
}

#[test]
fn loads_reloads_and_failures_count_and_interpreters_have_states() {
    let app = app("life");
    let script = Script::app("return respond(start_response, 'x')");
    let counts = || {
        let numbers = numbers(app);
        let loads = |result| numbers.counter(Id::ApplicationLoads, value(RESULT, result));
        let states = |state| numbers.gauge(Id::Interpreters, value(INTERPRETER_STATE, state));
        let reloads = numbers.counter(Id::ApplicationReloads, value(TRIGGER, "script_changed"));
        let starts = numbers.counter(Id::InterpreterStarts, 0);
        assert_eq!((states("starting"), states("draining")), (0, 0));
        (
            loads("ok"),
            loads("error"),
            reloads,
            starts,
            states("ready"),
            states("failed"),
        )
    };
    assert_eq!(counts(), (0, 0, 0, 0, 0, 0));
    script.request().app(app).run();
    assert_eq!(counts(), (1, 0, 0, 1, 1, 0));
    script.write("1/0");
    script.request().mtime(5).app(app).run();
    assert_eq!(counts(), (1, 1, 1, 1, 0, 1));
    script.write("def application(environ, start_response): return respond(start_response, 'x')");
    script.request().app(app).run();
    assert_eq!(counts(), (2, 1, 1, 1, 1, 0));
    let snapshot = segment().snapshot();
    let found = snapshot
        .applications
        .iter()
        .find(|numbers| numbers.application.app == app);
    let (oldest, newest) = found.unwrap().interpreters_since.unwrap();
    assert!(oldest == newest && newest <= snapshot.unix);
}

#[test]
fn collections_count_for_the_application_that_made_the_garbage() {
    let app = app("garbage");
    let script = Script::app(
        "import gc\n\
         gc.collect()\n\
         class Node: pass\n\
         for _ in range(1000):\n\
         \x20   node = Node()\n\
         \x20   node.itself = node\n\
         del node\n\
         gc.collect()\n\
         return respond(start_response, 'x')",
    );
    script.request().app(app).run();
    let (count, pause) = histogram(app, Id::GcPause, 2);
    assert!(count >= 2 && !pause.is_zero(), "{count} {pause:?}");
    let numbers = numbers(app);
    let collected: u128 = (0..3).map(|at| numbers.counter(Id::GcCollected, at)).sum();
    assert!(collected >= 1000, "{collected}");
    assert_eq!(numbers.counter(Id::GcUncollectable, 2), 0);
}

#[test]
fn an_interpreter_tells_its_blocks_and_threads() {
    let app = app("gauges");
    let script = Script::app("return respond(start_response, 'x')");
    script.request().group("gauges").app(app).run();
    let numbers = numbers(app);
    assert!(numbers.gauge(Id::AllocatedBlocks, 0) > 1000);
    assert!(numbers.gauge(Id::PythonThreads, 0) >= 1);
}
