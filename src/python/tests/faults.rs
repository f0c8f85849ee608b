//! Which side a failed request is blamed on, and clients that leave while there is nothing to send to them.

use wsgi_abi::{Fault, RunOutcome, WriteEnd};

use super::{ERROR, Piece, Recorded, Script};

/// `APLOG_INFO`
const INFO: i32 = 6;
/// `APLOG_DEBUG`
const DEBUG: i32 = 7;

const GONE: fn() -> Vec<Piece> = || vec![Piece::text("ab"), Piece::Aborted];

/// Whether the log has only the lines about the loading of the script.
fn is_silent(exchange: &Recorded) -> bool {
    exchange.lines(ERROR).is_empty() && !exchange.logged("exception raised")
}

/// Every way in which a failed read can leave the application.
#[test]
fn a_failed_read_that_is_let_out_is_not_the_applications() {
    for lines in [
        "environ['wsgi.input'].read()",
        "list(environ['wsgi.input'])",
        "environ['wsgi.input'].readlines()",
        "start_response('200 OK', [])\nenviron['wsgi.input'].read()",
        "try: environ['wsgi.input'].read()\nexcept OSError as error: raise KeyError('x') from error",
        "try: environ['wsgi.input'].read()\nexcept OSError as error: raise KeyError('x') from None",
        "try: environ['wsgi.input'].read()\nexcept OSError: raise KeyError('x')",
        "try: environ['wsgi.input'].read()\nexcept OSError: sys.exit(1)",
        "try: environ['wsgi.input'].read()\nexcept OSError: pass\nenviron['wsgi.input'].read()",
        "try: environ['wsgi.input'].read()\nexcept OSError as error: kept = error\nraise ValueError() from kept",
        "try: environ['wsgi.input'].read()\nexcept OSError: pass\nraise ConnectionResetError('the client')",
        "start_response('200 OK', [])\nenviron['wsgi.input'].read()\nyield b'x'",
    ] {
        let exchange = Script::app(lines).request().body(GONE()).run();
        assert!(
            exchange.is(RunOutcome::Faulted),
            "{lines}: {:?}",
            exchange.outcome
        );
        assert!(exchange.lines(ERROR).is_empty(), "{lines}: {exchange:?}");
        let info = exchange.lines(INFO);
        let said = info.iter().any(|line| {
            line.starts_with("WSGI1080: not the application's fault: the client is gone; ")
                && line.contains(" exception raised processing WSGI script '")
        });
        assert!(said, "{lines}: {info:?}");
        assert!(
            exchange
                .lines(DEBUG)
                .contains(&"Traceback (most recent call last):"),
            "{lines}"
        );
        assert!(exchange.writes.is_empty(), "{lines}");
    }
}

#[test]
fn an_exception_of_its_own_is_the_applications() {
    for lines in [
        "try: environ['wsgi.input'].read()\nexcept OSError: pass\nraise KeyError('x')",
        "try: environ['wsgi.input'].read()\nexcept OSError: pass\nraise OSError('another')",
        "raise ConnectionResetError('the database')",
        "try: raise OSError()\nexcept OSError as error: raise KeyError() from error",
    ] {
        let exchange = Script::app(lines).request().body(GONE()).run();
        assert!(exchange.is(RunOutcome::Failed), "{lines}: {exchange:?}");
        assert!(
            exchange.lines(ERROR)[0].contains("exception raised processing WSGI script"),
            "{lines}"
        );
    }
    // Another ConnectionError is only attributed to the failure if the client is gone.
    let script = Script::app(
        "try: environ['wsgi.input'].read()\nexcept OSError: pass\nraise ConnectionResetError('the database')",
    );
    let pieces = vec![Piece::Failed(Fault::Malformed, "bad")];
    let exchange = script.request().body(pieces).run();
    assert!(exchange.is(RunOutcome::Failed), "{exchange:?}");
}

/// A ring of causes ends the search and does not hang the thread.
#[test]
fn a_ring_of_causes_is_no_trap() {
    let script = Script::app(
        "try: environ['wsgi.input'].read()\nexcept OSError: pass\n\
         one, two = KeyError('one'), KeyError('two')\none.__cause__, two.__cause__ = two, one\nraise one",
    );
    let exchange = script.request().body(GONE()).run();
    assert!(exchange.is(RunOutcome::Failed), "{exchange:?}");
}

#[test]
fn errors_have_their_numbers() {
    for (fault, name) in [
        (Fault::Gone, "ECONNRESET"),
        (Fault::Slow, "ETIMEDOUT"),
        (Fault::TooLarge, "EFBIG"),
        (Fault::Malformed, "EBADMSG"),
        (Fault::Unsupported, "ENOTSUP"),
        (Fault::Answered, "ECONNABORTED"),
        (Fault::Server, "EIO"),
    ] {
        let script = Script::app(
            "import errno\ndef tell():\n  try: environ['wsgi.input'].read()\n  except OSError as error:\n    \
             return f'{type(error).__name__} {errno.errorcode[error.errno]} {error}'\n\
             one, two = tell(), tell()\nreturn respond(start_response, one + '|' + two)",
        );
        let pieces = vec![Piece::Failed(fault, "why")];
        let exchange = script.request().body(pieces).run();
        let told = |reason| format!("OSError {name} mod_wsgi request data read error: {reason}");
        let expected = format!(
            "{}|{}",
            told("why"),
            told("input is already in error state")
        );
        assert_eq!(exchange.text(), expected, "{fault:?}");
        // The response of an application that answers itself is sent, and nothing is logged.
        assert!(exchange.is(RunOutcome::Responded) && is_silent(&exchange));
    }
}

#[test]
fn what_httpd_fails_at_is_an_error_of_httpd() {
    let script = Script::app("environ['wsgi.input'].read()");
    let pieces = vec![Piece::Failed(Fault::Server, "Cannot allocate memory")];
    let exchange = script.request().body(pieces).run();
    assert!(exchange.is(RunOutcome::Faulted));
    let error = exchange.lines(ERROR)[0];
    assert!(
        error.starts_with("WSGI1082: ")
            && error.ends_with("could not be read: Cannot allocate memory"),
        "{error}"
    );
}

/// A client that takes nothing more: `write()` tells the application, iteration does not.
#[test]
fn a_client_that_takes_nothing_more() {
    for lines in [
        "write = start_response('200 OK', [])\nwhile True: write(b'x')",
        "write = start_response('200 OK', [])\ntry:\n  while True: write(b'x')\nexcept OSError: raise BrokenPipeError()",
        "start_response('200 OK', [])\nwhile True: yield b'x'",
        "write = start_response('200 OK', [])\ndef body():\n  try:\n    while True: yield b'x'\n  finally:\n    \
         write(b'last')\nreturn body()",
        "start_response('200 OK', [])\ndef body():\n  yield b'x' * 100\n  while True: yield b'x'\nreturn Body(body())",
    ] {
        let script = Script::app(lines);
        let mut request = script.request();
        request.host.aborted_after = Some(2);
        let exchange = request.run();
        assert!(exchange.is(RunOutcome::Responded), "{lines}: {exchange:?}");
        assert!(
            !exchange.cut,
            "{lines}: there is nobody to cut the response for"
        );
        assert!(exchange.lines(ERROR).is_empty(), "{lines}: {exchange:?}");
    }
}

/// Nothing is ever sent, and the client has gone.
#[test]
fn a_client_that_leaves_is_noticed_while_nothing_is_sent() {
    for lines in [
        "start_response('200 OK', [])\ndef body():\n  while True: yield b''\nreturn Body(body())",
        "start_response('200 OK', [('Content-Length', '5')])\ndef body():\n  yield b'123'\n  while True: yield b''\n\
         return Body(body())",
        "import itertools\nstart_response('200 OK', [])\nreturn Body(itertools.repeat(b''))",
        "import time\nstart_response('200 OK', [])\ndef body():\n  while True:\n    time.sleep(0.05)\n    yield b''\n\
         return Body(body())",
    ] {
        let script = Script::new(&format!(
            "def application(environ, start_response):\n    {}\n\
             def closed(environ, start_response): return respond(start_response, Body.closed)\n",
            lines.replace('\n', "\n    ")
        ));
        let exchange = script.request().gone().run();
        assert!(exchange.is(RunOutcome::ClientLeft), "{lines}: {exchange:?}");
        assert!(is_silent(&exchange), "{lines}: {exchange:?}");
        assert_eq!(script.request().callable("closed").text(), "1", "{lines}");
    }
    let writes =
        Script::app("write = start_response('200 OK', [])\nwrite(b'')\nwhile True: write(b'')");
    let exchange = writes.request().gone().run();
    assert!(exchange.is(RunOutcome::ClientLeft), "{exchange:?}");
    assert!(exchange.lines(ERROR).is_empty(), "{exchange:?}");
}

/// The response is complete, and its iterable is endless: the response is sent at once, and the iterable is closed.
#[test]
fn a_whole_response_does_not_wait_for_an_endless_iterable() {
    for (lines, head, pieces) in [
        (
            "def body():\n  yield b'12345'\n  while True: yield b'x'",
            false,
            vec![("12345", WriteEnd::EndNow)],
        ),
        (
            "def body():\n  yield b'12345'\n  while True: yield b''",
            false,
            vec![("12345", WriteEnd::EndNow)],
        ),
        (
            "def body():\n  yield b'123'\n  while True: yield b'45678'",
            false,
            vec![("123", WriteEnd::Flush), ("45", WriteEnd::EndNow)],
        ),
        (
            "import itertools\nbody = lambda: itertools.repeat(b'1234567')",
            false,
            vec![("12345", WriteEnd::EndNow)],
        ),
        (
            "def body():\n  while True: yield b'12'",
            true,
            vec![("12", WriteEnd::Flush), ("", WriteEnd::End)],
        ),
    ] {
        let script = Script::new(&format!(
            "def application(environ, start_response):\n    \
             start_response('200 OK', [('Content-Length', '5')])\n    {}\n    return Body(body())\n\
             def closed(environ, start_response): return respond(start_response, Body.closed)\n",
            lines.replace('\n', "\n    ")
        ));
        let request = script.request();
        let exchange = if head { request.header_only() } else { request }.run();
        assert!(exchange.is(RunOutcome::Responded), "{lines}: {exchange:?}");
        assert_eq!(exchange.pieces(), pieces, "{lines}");
        assert!(!exchange.cut && is_silent(&exchange), "{lines}");
        assert_eq!(script.request().callable("closed").text(), "1", "{lines}");
    }
}

/// The work of an iterable after its last chunk is done, and if that is quick, the response is sent in one piece.
#[test]
fn what_comes_after_the_last_chunk_is_done() {
    let script = Script::new(
        "done = 0\n\
         def application(environ, start_response):\n\
         \x20   global done\n\
         \x20   start_response('200 OK', [('Content-Length', '5')])\n\
         \x20   yield b'12345'\n\
         \x20   done += 1\n\
         def tell(environ, start_response): return respond(start_response, done)\n",
    );
    for count in 1..=8 {
        let exchange = script.run();
        let end = match count {
            1..=4 => WriteEnd::EndNow,
            _ => WriteEnd::End,
        };
        assert_eq!(exchange.pieces(), [("12345", end)], "{count}");
        let done = script.request().callable("tell").text();
        assert_eq!(done, count.to_string());
    }
}

/// A complete response stays as it is, whatever the application does then.
#[test]
fn failures_after_the_whole_response_change_nothing() {
    for failure in ["1/0", "sys.exit()", "yield 'text'", "write(b'more')"] {
        let script = Script::app(&format!(
            "write = start_response('200 OK', [('Content-Length', '3')])\nyield b'a'\nyield b'bc'\n{failure}"
        ));
        let exchange = script.run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{failure}: {exchange:?}"
        );
        assert_eq!(
            exchange.pieces(),
            [("a", WriteEnd::Flush), ("bc", WriteEnd::EndNow)],
            "{failure}"
        );
    }
}

/// Nothing more is sent, and the client stays: `write()` ends the application after a while.
#[test]
fn an_application_that_writes_for_ever_is_ended() {
    for head in [true, false] {
        let script = Script::app(
            "write = start_response('200 OK', [('Content-Length', '5')])\nwhile True: write(b'hello')",
        );
        let request = script.request();
        let exchange = if head { request.header_only() } else { request }.run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{exchange:?}"
        );
        assert!(exchange.lines(ERROR).is_empty(), "{exchange:?}");
        assert!(exchange.logged("the response is whole; OSError exception raised"));
    }
}

/// Lines of a body that was read ahead, and of one that arrives in pieces.
#[test]
fn lines_of_a_large_body() {
    let body = "\n".repeat(64 * 1024) + &"x".repeat(100_000) + "\n" + &"ab\n".repeat(100_000);
    let script = Script::app(
        "i = environ['wsgi.input']\ncounts = [0, 0]\n\
         for line in i:\n  counts[0] += 1\n  counts[1] += len(line)\n  if not line.endswith(b'\\n'): counts.append(line)\n\
         return respond(start_response, counts)",
    );
    let expected = format!("[{}, {}]", 64 * 1024 + 100_001, body.len());
    for ahead in [0, 64 * 1024] {
        let pieces = body
            .as_bytes()
            .chunks(10_007)
            .map(|piece| Piece::Data(piece.to_vec()));
        let exchange = script.request().body(pieces).body_ahead(ahead).run();
        assert_eq!(exchange.text(), expected, "{ahead}");
    }
}
