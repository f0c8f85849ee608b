//! `wsgi.errors`, `sys.stdout` and `sys.stderr`: lines, and which log they go to.

use super::host::server_logged;
use super::{ERROR, Piece, Script, ask};

/// The lines of an application that has `errors`, and the records in the log.
#[test]
fn records_are_lines() {
    for (lines, expected) in [
        ("errors.write('one\\ntwo\\n')", &["one", "two"][..]),
        ("errors.write('one'); errors.write(' two\\n')", &["one two"]),
        ("errors.write('open')", &["open"]),
        (
            "errors.write('one'); errors.flush(); errors.write('two')",
            &["one", "two"],
        ),
        ("errors.writelines(['one\\n', 'two'])", &["one", "two"]),
        (
            "print('caf\\xe9', '\\u20ac', '\\udc80', file=errors)",
            &["café € ?"],
        ),
        ("errors.write('a\\0b\\n')", &["a\\0b"]),
        ("errors.write('\\n')", &[""]),
        ("errors.write('one\\r\\ntwo\\n')", &["one\r", "two"]),
        ("errors.buffer.write(b'raw\\n')", &["raw"]),
        (
            "errors.buffer.write(bytearray(b'one\\n')); errors.buffer.write(memoryview(b'two\\n'))",
            &["one", "two"],
        ),
        ("errors.buffer.write('text\\n')", &["text"]),
        (
            "errors.buffer.writelines([b'one\\n', b'two\\n'])",
            &["one", "two"],
        ),
        ("with errors.buffer as b: b.write(b'x\\n')", &["x"]),
        ("errors.close()", &[]),
        ("print('out')", &["out"]),
        ("sys.stderr.write('err\\n')", &["err"]),
        (
            "sys.stdout.write('a'); sys.stderr.write('b'); errors.write('c\\n')",
            &["abc"],
        ),
    ] {
        let script = Script::app(&format!(
            "errors = environ['wsgi.errors']\n{lines}\nreturn respond(start_response, 'x')"
        ));
        assert_eq!(script.run().lines(ERROR), expected, "{lines}");
    }
}

#[test]
fn attributes() {
    for (expression, expected) in [
        (
            "type(environ['wsgi.errors'])",
            "<class '_io.TextIOWrapper'>",
        ),
        (
            "type(environ['wsgi.errors'].buffer)",
            "<class 'mod_wsgi.Log'>",
        ),
        ("environ['wsgi.errors'].name", "<wsgi.errors>"),
        ("sys.stderr.name + sys.stdout.name", "<stderr><stdout>"),
        ("environ['wsgi.errors'].buffer.mode", "wb"),
        ("environ['wsgi.errors'].buffer.closed", "False"),
        (
            "(environ['wsgi.errors'].encoding, environ['wsgi.errors'].errors)",
            "('utf-8', 'replace')",
        ),
        ("sys.stderr.isatty()", "False"),
        (
            "sys.stderr.fileno()",
            "OSError: Apache/mod_wsgi log object is not associated with a file descriptor.",
        ),
        (
            "environ['wsgi.errors'].buffer.write(1)",
            "TypeError: a bytes-like object is required, not 'int'",
        ),
        (
            "environ['wsgi.errors'].buffer.write()",
            "TypeError: write() takes exactly 1 argument (0 given)",
        ),
        (
            "environ['wsgi.errors'].buffer.writelines(1)",
            "TypeError: 'int' object is not iterable",
        ),
        (
            "environ['wsgi.errors'].read()",
            "UnsupportedOperation: not readable",
        ),
    ] {
        assert_eq!(ask(expression), expected, "{expression}");
    }
}

/// What an application does to its `wsgi.errors` so that the stream stays reachable, what the next request does with
/// it, and the result. The next request's own stream is not affected.
#[test]
fn a_stream_that_left_a_trace_is_not_used_again() {
    let dead = "RuntimeError: write() called on wsgi.errors after request completed";
    for (lines, then, expected) in [
        ("kept.append(errors)", "kept[0].write('late\\n')", dead),
        (
            "kept.append(errors.buffer)",
            "kept[0].write(b'late\\n')",
            dead,
        ),
        ("kept.append(errors.write)", "kept[0]('late\\n')", dead),
        (
            "kept.append(errors.buffer.write)",
            "kept[0](b'late\\n')",
            dead,
        ),
        (
            "kept.append(environ)",
            "kept[0]['wsgi.errors'].write('late\\n')",
            dead,
        ),
        // As the stream itself does when it is collected.
        ("kept.append(errors)", "kept[0].flush()", "None"),
        ("kept.append(weakref.ref(errors))", "kept[0]()", "None"),
        ("errors.mark = 1", "hasattr(errors, 'mark')", "False"),
        (
            "errors.reconfigure(encoding='ascii')",
            "errors.encoding",
            "utf-8",
        ),
        ("errors.reconfigure(newline='\\r')", "errors.write('')", "0"),
        ("errors.detach()", "errors.write('')", "0"),
        (
            "errors.__init__(io.BytesIO())",
            "type(errors.buffer).__name__",
            "Log",
        ),
        ("errors.write('open')", "errors.write('')", "0"),
        ("errors.close()", "errors.write('')", "0"),
        (
            "import gc; cycle = [errors]; cycle.append(cycle)",
            "errors.write('')",
            "0",
        ),
        ("pass", "errors.write('')", "0"),
    ] {
        let script = Script::new(&format!(
            "import io, weakref\n\
             kept = []\n\
             def application(environ, start_response):\n\
             \x20   errors = environ['wsgi.errors']\n\
             \x20   {lines}\n\
             \x20   return respond(start_response, 'x')\n\
             def then(environ, start_response):\n\
             \x20   errors = environ['wsgi.errors']\n\
             \x20   result = attempt(lambda: {then})\n\
             \x20   errors.write('own line')\n\
             \x20   return respond(start_response, result)\n"
        ));
        let group = "errors-again";
        script.request().group(group).run();
        let exchange = script.request().group(group).callable("then").run();
        assert_eq!(exchange.text(), expected, "{lines}");
        assert_eq!(exchange.lines(ERROR), ["own line"], "{lines}");
    }
}

/// Without a GIL it cannot be told that an object is not shared.
#[cfg(not(Py_GIL_DISABLED))]
#[test]
fn a_stream_without_a_trace_is_used_again() {
    let script = Script::app("return respond(start_response, id(environ['wsgi.errors']))");
    let run = || script.request().group("errors-reused").text();
    let first = run();
    assert!((0..5).all(|_| run() == first));
}

#[test]
fn threads_of_the_application_write_to_the_servers_log() {
    let script = Script::app(
        "import threading\n\
         def work():\n\
         \x20   print('from a thread')\n\
         \x20   sys.stderr.write('and its stderr\\n')\n\
         \x20   environ['wsgi.errors'].write('its wsgi.errors\\n')\n\
         thread = threading.Thread(target=work)\n\
         thread.start()\n\
         thread.join()\n\
         print('from the request')\n\
         return respond(start_response, 'x')",
    );
    let exchange = script.run();
    assert_eq!(
        exchange.lines(ERROR),
        ["its wsgi.errors", "from the request"]
    );
    assert!(server_logged(ERROR, "from a thread"));
    assert!(server_logged(ERROR, "and its stderr"));
}

#[test]
fn two_requests_at_a_time_have_two_logs() {
    let script = Script::app(
        "import time\n\
         for _ in range(20):\n\
         \x20   print(environ['name'], end=' ')\n\
         \x20   time.sleep(0.001)\n\
         return respond(start_response, 'x')",
    );
    let run = |name: &str| {
        let request = script.request().literal(b"name", Some(name.as_bytes()));
        request.run().lines(ERROR).concat()
    };
    std::thread::scope(|scope| {
        let (a, b) = (scope.spawn(|| run("a")), scope.spawn(|| run("b")));
        assert_eq!(a.join().unwrap(), "a ".repeat(20));
        assert_eq!(b.join().unwrap(), "b ".repeat(20));
    });
}

/// A thread of the application writes to the log while the request reads its body; the read waits for that.
#[test]
fn a_line_of_another_thread_goes_beside_a_call_of_the_host() {
    let script = std::sync::Arc::new(Script::new(
        "import os, threading, time\n\
         def application(environ, start_response):\n    \
         errors = environ['wsgi.errors']\n    \
         here = os.path.dirname(__file__)\n    \
         def write():\n        \
             while not os.path.exists(here + '/reads'): time.sleep(0.001)\n        \
             errors.write('from beside\\n')\n        \
             open(here + '/done', 'w').close()\n    \
         other = threading.Thread(target=write)\n    \
         other.start()\n    \
         errors.write('before\\n')\n    \
         data = environ['wsgi.input'].read()\n    \
         other.join()\n    \
         errors.write('after\\n')\n    \
         return respond(start_response, data)",
    ));
    for strategy in ["direct", "delegate", "pool"] {
        let path = |name: &str| script.path.with_file_name(name);
        let (reads, done) = (path("reads"), path("done"));
        let (left_reads, left_done) = (reads.clone(), done.clone());
        let wait = move || {
            std::fs::write(&reads, "").unwrap();
            let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while !done.exists() {
                assert!(
                    std::time::Instant::now() < until,
                    "the other thread is stuck"
                );
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        let body = [Piece::Wait(Box::new(wait)), Piece::text("body")];
        let group = format!("run-{strategy}-beside");
        let exchange = script.request().group(&group).body(body).run();
        assert_eq!(exchange.text(), "body", "{exchange:?}");
        assert_eq!(
            exchange.lines(ERROR),
            ["before", "from beside", "after"],
            "{strategy}"
        );
        assert_eq!(exchange.beside, ["from beside"], "{strategy}");
        std::fs::remove_file(left_reads).unwrap();
        std::fs::remove_file(left_done).unwrap();
    }
}

/// An interpreter keeps 64 streams for the next requests. Each request has its own stream, however many requests there
/// are.
#[test]
fn more_streams_than_are_kept() {
    let script = Script::new(
        "import threading\n\
         barriers = {}\n\
         def application(environ, start_response):\n\
         \x20   count, mine = environ['QUERY_STRING'].split(',')\n\
         \x20   barrier = barriers.setdefault(count, threading.Barrier(int(count)))\n\
         \x20   environ['wsgi.errors'].write(f'this is {mine}')\n\
         \x20   barrier.wait(60)\n\
         \x20   environ['wsgi.errors'].write(f' of {count}\\n')\n\
         \x20   return respond(start_response, mine)\n",
    );
    for count in [63, 64, 65, 130] {
        std::thread::scope(|scope| {
            let requests: Vec<_> = (0..count)
                .map(|number| {
                    let script = &script;
                    scope.spawn(move || {
                        let query = format!("{count},{number}");
                        let request = script.request().group("run-direct-streams");
                        let request = request.known(wsgi_abi::keys::QUERY_STRING, query.as_bytes());
                        request.run()
                    })
                })
                .collect();
            for (number, request) in requests.into_iter().enumerate() {
                let exchange = request.join().unwrap();
                let said = format!("this is {number} of {count}");
                assert_eq!(exchange.lines(ERROR), [said], "{exchange:?}");
            }
        });
    }
}
