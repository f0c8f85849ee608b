//! What an application returns, and how it is sent.

use wsgi_abi::{RunOutcome, WriteEnd};

use super::{ERROR, Script};
use crate::request::response::COLLECT_LIMIT;

const END: WriteEnd = WriteEnd::End;
const FLUSH: WriteEnd = WriteEnd::Flush;
const MORE: WriteEnd = WriteEnd::More;
const END_NOW: WriteEnd = WriteEnd::EndNow;

/// The lines of an application, the Content-Length if it is known, its writes, and whether the response is cut.
#[test]
fn chunks_become_writes() {
    let start = "start_response('200 OK', [])";
    let start_5 = "start_response('200 OK', [('Content-Length', '5')])";
    let cases: &[(&str, Option<u64>, &[(&str, WriteEnd)], bool)] = &[
        ("{start}\nreturn [b'one']", Some(3), &[("one", END)], false),
        (
            "{start}\nreturn (b'one', b'', b'two')",
            Some(6),
            &[("onetwo", END)],
            false,
        ),
        ("{start}\nreturn []", Some(0), &[("", END)], false),
        ("{start}\nreturn b'ab'", None, &[], false),
        (
            "{start}\nreturn iter([b'one', b'', b'two'])",
            None,
            &[("one", FLUSH), ("two", MORE), ("", END)],
            false,
        ),
        (
            "{start}\nyield b'one'\nyield b'two'",
            None,
            &[("one", FLUSH), ("two", MORE), ("", END)],
            false,
        ),
        ("{start}\nreturn iter([])", Some(0), &[("", END)], false),
        ("{start}\nyield b''", Some(0), &[("", END)], false),
        // A declared length that one chunk reaches.
        (
            "{start_5}\nyield b'12345'",
            Some(5),
            &[("12345", END_NOW)],
            false,
        ),
        (
            "{start_5}\nyield b''\nyield b'12345'\nyield b''",
            Some(5),
            &[("12345", END_NOW)],
            false,
        ),
        (
            "{start_5}\nreturn [b'12345']",
            Some(5),
            &[("12345", END)],
            false,
        ),
        // The surplus is dropped.
        (
            "{start_5}\nyield b'1234567'\nyield b'89'",
            Some(5),
            &[("12345", END_NOW)],
            false,
        ),
        (
            "{start_5}\nyield b'123'\nyield b'4567'\nyield b'89'",
            Some(5),
            &[("123", FLUSH), ("45", END_NOW)],
            false,
        ),
        (
            "{start_5}\nreturn [b'123', b'4567']",
            Some(5),
            &[("12345", END)],
            false,
        ),
        // A response that is too short is cut.
        (
            "{start_5}\nreturn [b'123']",
            Some(5),
            &[("123", MORE)],
            true,
        ),
        (
            "{start_5}\nyield b'123'",
            Some(5),
            &[("123", FLUSH), ("", MORE)],
            true,
        ),
        ("{start_5}\nreturn []", Some(5), &[("", MORE)], true),
    ];
    for (lines, length, writes, cut) in cases {
        let lines = lines
            .replace("{start}", start)
            .replace("{start_5}", start_5);
        let exchange = Script::app(&lines).run();
        if lines.ends_with("return b'ab'") {
            // The iteration yields numbers.
            assert!(exchange.is(RunOutcome::Failed), "{exchange:?}");
            continue;
        }
        assert!(exchange.is(RunOutcome::Responded), "{lines}: {exchange:?}");
        assert_eq!(exchange.content_length, *length, "{lines}");
        assert!(same(&exchange.pieces(), writes), "{lines}: {exchange:?}");
        assert_eq!(exchange.cut, *cut, "{lines}");
        assert_eq!(
            exchange.logged("ended its response before the Content-Length"),
            *cut,
            "{lines}"
        );
    }
}

/// Whether the pieces are as expected. A piece that may wait for others may have been flushed after a pause of the
/// machine.
pub(super) fn same(pieces: &[(&str, WriteEnd)], expected: &[(&str, WriteEnd)]) -> bool {
    let is_same = |(piece, expected): (&(&str, WriteEnd), &(&str, WriteEnd))| {
        piece == expected || (piece.0, piece.1, expected.1) == (expected.0, FLUSH, MORE)
    };
    pieces.len() == expected.len() && pieces.iter().zip(expected).all(is_same)
}

#[test]
fn a_large_list_is_sent_chunk_by_chunk() {
    let size = COLLECT_LIMIT;
    let script = Script::app(&format!(
        "start_response('200 OK', [])\nreturn [b'a' * {size}, b'', b'b' * 10]"
    ));
    let exchange = script.run();
    assert_eq!(exchange.content_length, Some(size as u64 + 10));
    let sizes: Vec<_> = exchange
        .writes
        .iter()
        .map(|(data, end)| (data.len(), *end))
        .collect();
    assert_eq!(sizes, [(size, MORE), (10, MORE), (0, END)]);
}

#[test]
fn a_list_at_the_limit_is_one_write() {
    let script = Script::app(&format!(
        "start_response('200 OK', [])\nreturn [b'a' * {COLLECT_LIMIT}]"
    ));
    let exchange = script.run();
    assert_eq!(exchange.writes.len(), 1);
    assert_eq!(exchange.writes[0].0.len(), COLLECT_LIMIT);
}

#[test]
fn a_large_chunk_of_the_declared_length_is_sent_at_once() {
    let size = COLLECT_LIMIT + 1;
    let script = Script::app(&format!(
        "start_response('200 OK', [('Content-Length', '{size}')])\nyield b'a' * {size}"
    ));
    let exchange = script.run();
    assert_eq!(exchange.bytes().len(), size);
    assert!(!exchange.cut);
}

/// However the body is sent, and also while all of the declared length waits to be sent with the end.
#[test]
fn nothing_goes_beyond_the_declared_length() {
    let start = "write = start_response('200 OK', [('Content-Length', '5')])";
    for lines in [
        "yield b'hello'\nyield b'X' * 70000",
        "yield b'hello'\nwrite(b'EVIL!')",
        "yield b'hello'\nwrite(b'EVIL!')\nyield b'EVIL!'",
        "yield b'hello'\nwrite(b'X' * 70000)",
        "yield b'hel'\nwrite(b'lo')\nwrite(b'EVIL!')",
        "write(b'hello')\nwrite(b'EVIL!')\nyield b'EVIL!'",
        "write(b'hello')\nreturn [b'EVIL!']",
        "return [b'hello', b'X' * 70000]",
        "return [b'hello' + b'X' * 70000]",
        "yield b'hello' + b'X' * 70000\nyield b'X' * 70000",
    ] {
        let exchange = Script::app(&format!("{start}\n{lines}")).run();
        assert!(exchange.is(RunOutcome::Responded), "{lines}: {exchange:?}");
        assert_eq!(exchange.content_length, Some(5), "{lines}");
        assert_eq!(
            (exchange.text().as_str(), exchange.cut),
            ("hello", false),
            "{lines}"
        );
    }
}

#[test]
fn a_large_list_with_surplus_is_clipped() {
    let script = Script::app(&format!(
        "start_response('200 OK', [('Content-Length', '7')])\nreturn [b'a' * {COLLECT_LIMIT}, b'b']"
    ));
    let exchange = script.run();
    assert_eq!(
        (exchange.content_length, exchange.text().as_str()),
        (Some(7), "aaaaaaa")
    );
    assert!(!exchange.cut);
}

/// HEAD, and statuses without a body: no response is short, and no length is announced for a body that was left out.
#[test]
fn responses_without_a_body() {
    for (head, status, headers, body, length) in [
        (true, "200 OK", "", "[b'abc']", Some(3)),
        (true, "200 OK", "", "[]", None),
        (true, "200 OK", "('Content-Length', '9')", "[]", Some(9)),
        (false, "204 None", "", "[]", None),
        (false, "304 Same", "('Content-Length', '9')", "[]", Some(9)),
        (false, "304 Same", "", "iter([])", None),
    ] {
        let script = Script::app(&format!(
            "start_response('{status}', [{headers}])\nreturn {body}"
        ));
        let request = script.request();
        let exchange = if head { request.header_only() } else { request }.run();
        assert!(exchange.is(RunOutcome::Responded));
        assert_eq!(exchange.content_length, length, "{head} {status} {headers}");
        assert!(!exchange.cut, "{head} {status} {headers}");
    }
}

/// The lines of an application, and the log line that says what is wrong with it. Nothing is sent.
#[test]
fn failures_before_any_output() {
    for (lines, error) in [
        ("raise KeyError('x')", "KeyError: 'x'"),
        (
            "start_response('200 OK', [])\nraise KeyError('x')",
            "KeyError: 'x'",
        ),
        (
            "return [b'body']",
            "RuntimeError: response has not been started: start_response() was not called",
        ),
        (
            "return []",
            "RuntimeError: response has not been started: start_response() was not called",
        ),
        (
            "return iter([b'body'])",
            "RuntimeError: response has not been started: start_response() was not called",
        ),
        (
            "return iter([])",
            "RuntimeError: response has not been started: start_response() was not called",
        ),
        (
            "start_response('200 OK', [])",
            "TypeError: 'NoneType' object is not iterable",
        ),
        (
            "start_response('200 OK', [])\nreturn 42",
            "TypeError: 'int' object is not iterable",
        ),
        (
            "start_response('200 OK', [])\nreturn 'text'",
            "TypeError: response iterable must yield bytes, got value of type str",
        ),
        (
            "start_response('200 OK', [])\nreturn [b'x', 'text']",
            "TypeError: response iterable must yield bytes, got value of type str",
        ),
        (
            "start_response('200 OK', [])\nreturn iter([1])",
            "TypeError: response iterable must yield bytes, got value of type int",
        ),
        (
            "start_response('200 OK', [])\nreturn iter([bytearray(b'x')])",
            "TypeError: response iterable must yield bytes, got value of type bytearray",
        ),
        (
            "start_response('200 OK', [])\nraise KeyError('x')\nyield",
            "KeyError: 'x'",
        ),
        (
            "start_response('200 OK', [])\nclass E(Exception):\n    def __str__(self): 1/0\nraise E",
            "<locals>.E: <",
        ),
        (
            "def deep(): deep()\ndeep()",
            "RecursionError: maximum recursion depth exceeded",
        ),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ] {
        let exchange = Script::app(lines).run();
        assert!(exchange.is(RunOutcome::Failed), "{lines}: {exchange:?}");
        assert!(
            exchange.status_line.is_empty() && exchange.writes.is_empty() && !exchange.cut,
            "{lines}"
        );
        let errors = exchange.lines(ERROR);
        assert!(
            errors[0].contains(" exception raised processing WSGI script '"),
            "{errors:?}"
        );
        assert!(
            errors[0].ends_with("' in main interpreter in embedded mode"),
            "{errors:?}"
        );
        // Exceptions that the engine raises outside of Python have no traceback.
        assert!(
            errors[1] == "Traceback (most recent call last):" || errors.len() == 2,
            "{errors:?}"
        );
        assert!(
            errors.last().unwrap().contains(error),
            "{lines}: {errors:?}"
        );
    }
}

#[test]
fn failures_after_the_commit_cut() {
    for failure in ["raise KeyError('x')", "yield 'text'", "sys.exit()"] {
        let exchange = Script::app(&format!(
            "start_response('200 OK', [])\nyield b'half'\n{failure}"
        ))
        .run();
        assert!(exchange.is(RunOutcome::Responded), "{exchange:?}");
        assert!(exchange.cut);
        assert_eq!(exchange.pieces(), [("half", FLUSH)], "{failure}");
    }
}

#[test]
fn what_was_complete_before_the_failure_is_sent() {
    let exchange =
        Script::app("start_response('200 OK', [('Content-Length', '3')])\nyield b'abc'\n1/0").run();
    assert!(exchange.is(RunOutcome::Responded) && !exchange.cut);
    assert_eq!(exchange.pieces(), [("abc", END_NOW)]);
    assert!(exchange.logged("ZeroDivisionError: division by zero"));
}

#[test]
fn system_exit_ends_nothing() {
    let exchange = Script::app("sys.exit(3)").run();
    assert!(exchange.is(RunOutcome::Failed));
    let errors = exchange.lines(ERROR);
    assert!(
        matches!(errors[..], [line] if line.contains("SystemExit exception raised by WSGI script '")),
        "{errors:?}"
    );
}

#[test]
fn a_request_timeout_is_no_error() {
    let before = Script::app("import mod_wsgi\nraise mod_wsgi.RequestTimeout").run();
    assert!(before.is(RunOutcome::TimedOut) && before.status_line.is_empty());
    assert!(before.lines(ERROR).is_empty(), "{before:?}");
    assert!(before.logged("Request interrupted by RequestTimeout; thread recovered"));

    let after =
        Script::app("import mod_wsgi\nstart_response('200 OK', [])\nyield b'half'\nraise mod_wsgi.RequestTimeout")
            .run();
    assert!(after.is(RunOutcome::Responded) && after.cut);
    assert!(after.lines(ERROR).is_empty());
}

#[test]
fn a_client_that_leaves_ends_the_iteration_quietly() {
    let script = Script::new(
        "taken = 0\n\
         def application(environ, start_response):\n\
         \x20   global taken\n\
         \x20   start_response('200 OK', [])\n\
         \x20   for taken in range(1000): yield b'x'\n\
         def count(environ, start_response): return respond(start_response, taken)",
    );
    let exchange = script.request().aborted_after(2).run();
    assert!(exchange.is(RunOutcome::Responded) && !exchange.cut);
    assert!(exchange.lines(ERROR).is_empty());
    assert_eq!(exchange.writes.len(), 2);
    assert_eq!(script.request().callable("count").text(), "2");
}

#[test]
fn an_aborted_last_write_is_no_error() {
    let exchange = Script::app("return respond(start_response, 'x')")
        .request()
        .aborted_after(0)
        .run();
    assert!(exchange.is(RunOutcome::Responded) && !exchange.cut);
    assert!(exchange.lines(ERROR).is_empty());
}
