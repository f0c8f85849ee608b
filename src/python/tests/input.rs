//! `wsgi.input`, compared with `io.BytesIO` over the same bytes, whatever pieces they arrive in.

use std::sync::mpsc;
use std::time::Duration;

use wsgi_abi::{Fault, WriteEnd};

use super::{Piece, Script};

/// Reads by a plan until nothing is left, from `wsgi.input` and from `io.BytesIO`, and reports the first difference.
const COMPARE: &str = r#"
import io, random

def application(environ, start_response):
    stream, oracle = environ["wsgi.input"], io.BytesIO(BODY)
    sizes = [-1, 0, 1, 2, 3, 7, 100, 8191, 8192, 8193, 20000, 1 << 40]
    plans = [lambda s, n: s.read(n), lambda s, n: s.readline(n), lambda s, n: s.readlines(n),
             lambda s, n: s.readline(), lambda s, n: list(zip(range(3), s))]
    choice = random.Random(int(environ["seed"]))
    steps = []
    while True:
        plan, size = choice.randrange(len(plans)), choice.choice(sizes)
        steps.append((plan, size))
        got, expected = plans[plan](stream, size), plans[plan](oracle, size)
        if got != expected:
            return respond(start_response, f"{steps}: {got!r:.100} is not {expected!r:.100}")
        if oracle.tell() == len(BODY) and size:
            rest = (stream.read(), stream.read(5), stream.readline(), stream.readlines(), list(stream))
            return respond(start_response, rest == (b"", b"", b"", [], []))
"#;

/// Returns a small generator of random numbers.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    }
}

#[test]
fn reads_as_bytesio_does() {
    for (shape, body) in [
        ("empty", String::new()),
        ("short lines", "one\ntwo\n\nthree".repeat(50)),
        (
            "long lines",
            (0..40).map(|at| "x".repeat(at * 997) + "\n").collect(),
        ),
        ("no line end", "y".repeat(30_000)),
        ("only line ends", "\n".repeat(9000)),
    ] {
        let script = Script::new(&format!("BODY = {body:?}.encode()\n{COMPARE}"));
        for seed in 0..16_u64 {
            let mut number = numbers(seed);
            let largest = [1, 10, 8192, 100_000][seed as usize % 4];
            let mut pieces = Vec::new();
            let mut rest = body.as_bytes();
            while !rest.is_empty() {
                // Pieces of one byte take too long for the large bodies.
                let least = rest.len() / 2000;
                let (piece, more) = rest.split_at(rest.len().min(least + 1 + number(largest)));
                pieces.push(Piece::Data(piece.to_vec()));
                rest = more;
            }
            let request = script.request().body(pieces);
            let text = request
                .literal(b"seed", Some(seed.to_string().as_bytes()))
                .text();
            assert_eq!(text, "True", "{shape}, seed {seed}");
        }
    }
}

fn run(lines: &str, body: Vec<Piece>) -> String {
    Script::app(&format!("stream = environ['wsgi.input']\n{lines}"))
        .request()
        .body(body)
        .text()
}

#[test]
fn arguments() {
    for (call, expected) in [
        (
            "stream.read(None)",
            "TypeError: 'NoneType' object cannot be interpreted as an integer",
        ),
        (
            "stream.read('1')",
            "TypeError: 'str' object cannot be interpreted as an integer",
        ),
        (
            "stream.read(1, 2)",
            "TypeError: read() takes at most 1 argument (2 given)",
        ),
        (
            "stream.readline(1, 2)",
            "TypeError: readline() takes at most 1 argument (2 given)",
        ),
        (
            "stream.readlines(1, 2)",
            "TypeError: readlines() takes at most 1 argument (2 given)",
        ),
        (
            "stream.read(1 << 80)",
            "OverflowError: cannot fit 'int' into an index-sized integer",
        ),
        ("stream.close()", "None"),
        ("iter(stream) is stream", "True"),
        ("type(stream)", "<class 'mod_wsgi.Input'>"),
        (
            "type(stream)()",
            "TypeError: cannot create 'mod_wsgi.Input' instances",
        ),
    ] {
        let text = run(
            &format!("return respond(start_response, attempt(lambda: {call}))"),
            vec![Piece::text("x")],
        );
        assert_eq!(text, expected, "{call}");
    }
}

#[test]
fn reading_nothing_asks_for_100_continue() {
    let script = Script::app(
        "input = environ['wsgi.input']\nreturn respond(start_response, (input.read(0), input.readline(0), input.read()))",
    );
    let exchange = script.request().body([Piece::text("abc")]).run();
    assert_eq!(exchange.text(), "(b'', b'', b'abc')");
    assert_eq!(exchange.reads[0], 0);
    assert_eq!(exchange.reads.iter().filter(|size| **size == 0).count(), 1);
}

#[test]
fn without_a_body_the_host_is_not_asked() {
    let script = Script::app(
        "i = environ['wsgi.input']\nreturn respond(start_response, (i.read(), i.read(0), i.readline(), list(i)))",
    );
    let exchange = script.run();
    assert_eq!(exchange.text(), "(b'', b'', b'', [])");
    assert!(exchange.reads.is_empty());
}

#[test]
fn after_the_end_the_host_is_not_asked() {
    let script = Script::app(
        "i = environ['wsgi.input']\ni.read()\nreturn respond(start_response, (i.read(), i.readline()))",
    );
    let exchange = script.request().body([Piece::text("abc")]).run();
    assert_eq!(exchange.text(), "(b'', b'')");
    assert_eq!(exchange.reads.len(), 2, "the data, and the end");
}

#[test]
fn errors_stick() {
    let again = "OSError: mod_wsgi request data read error: input is already in error state";
    for (failure, reason) in [
        (Piece::Aborted, "Connection was terminated"),
        (
            Piece::Failed(Fault::Slow, "Connection timed out"),
            "Connection timed out",
        ),
    ] {
        let text = run(
            "one = stream.read(2)\n\
             calls = [stream.read, stream.read, stream.readline, stream.readlines, lambda: next(stream)]\n\
             return respond(start_response, '|'.join([str(one), *map(attempt, calls)]))",
            vec![Piece::text("abc"), failure, Piece::text("more")],
        );
        let expected = format!(
            "b'ab'|OSError: mod_wsgi request data read error: {reason}|{again}|{again}|{again}|{again}"
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn after_the_request_it_is_dead() {
    let script = Script::new(
        "kept = []\n\
         def application(environ, start_response):\n\
         \x20   kept.append(environ['wsgi.input'])\n\
         \x20   i = kept[0]\n\
         \x20   calls = [i.read, i.readline, i.readlines, i.close, lambda: next(i), lambda: iter(i)]\n\
         \x20   return respond(start_response, '|'.join(str(attempt(call)) for call in calls))\n",
    );
    script.request().body([Piece::text("abc\ndef")]).run();
    let methods = [
        "read",
        "readline",
        "readlines",
        "close",
        "__next__",
        "__iter__",
    ];
    let expected = methods.map(|method| {
        format!("RuntimeError: {method}() called on wsgi.input after request completed")
    });
    assert_eq!(
        script.request().body([Piece::text("x")]).text(),
        expected.join("|")
    );
}

/// A thread of the application reads while the request's own thread waits for it.
#[test]
fn another_thread_may_read() {
    let script = Script::app(
        "import threading\n\
         got = []\n\
         thread = threading.Thread(target=lambda: got.extend(environ['wsgi.input']))\n\
         thread.start()\n\
         thread.join()\n\
         return respond(start_response, got)",
    );
    let body = || [Piece::text("one\ntw"), Piece::text("o\n")];
    assert_eq!(
        script.request().body(body()).text(),
        "[b'one\\n', b'two\\n']"
    );
    assert_eq!(
        script.request().group("reading-thread").body(body()).text(),
        "[b'one\\n', b'two\\n']"
    );
}

/// A thread that is in a call of the host when the application is done delays the end of the request, and gets its
/// data.
#[test]
fn the_end_waits_for_another_threads_read() {
    let script = Script::new(
        "import os, threading, time\n\
         got = []\n\
         thread = None\n\
         def application(environ, start_response):\n\
         \x20   global thread\n\
         \x20   def read():\n\
         \x20       got.append(attempt(environ['wsgi.input'].read, 1))\n\
         \x20       got.append(attempt(environ['wsgi.input'].read, 1))\n\
         \x20   thread = threading.Thread(target=read)\n\
         \x20   thread.start()\n\
         \x20   while not os.path.exists(__file__ + '.inside'): time.sleep(0.001)\n\
         \x20   return respond(start_response, 'done')\n\
         def result(environ, start_response):\n\
         \x20   thread.join(10)\n\
         \x20   return respond(start_response, got)\n",
    );
    let (release, wait) = mpsc::channel::<()>();
    let inside = script.path.with_extension("wsgi.inside");
    let waiting = move || {
        std::fs::write(inside, "").unwrap();
        wait.recv().unwrap();
    };
    let body = [
        Piece::Wait(Box::new(waiting)),
        Piece::text("a"),
        Piece::text("b"),
    ];
    std::thread::scope(|scope| {
        let request = scope.spawn(|| script.request().body(body).run());
        std::thread::sleep(Duration::from_millis(200));
        assert!(!request.is_finished());
        release.send(()).unwrap();
        assert_eq!(request.join().unwrap().pieces(), [("done", WriteEnd::End)]);
    });
    let got = script.request().callable("result").text();
    // On a slow machine the application is not done by then.
    let ended = "'RuntimeError: read() called on wsgi.input after request completed'";
    let possible = [format!("[b'a', {ended}]"), String::from("[b'a', b'b']")];
    assert!(possible.contains(&got), "{got}");
}
