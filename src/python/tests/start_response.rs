//! `start_response`: the texts and the order of its checks, and when it may be called again.

use wsgi_abi::{RunOutcome, WriteEnd};

use super::{Script, ask};

#[test]
fn refuses_with_the_texts_that_applications_know() {
    for (call, expected) in [
        (
            "start_response('200 OK', ())",
            "TypeError: start_response() argument 2 must be list, not tuple",
        ),
        (
            "start_response('200 OK', None)",
            "TypeError: start_response() argument 2 must be list, not NoneType",
        ),
        (
            "start_response('200 OK', [], 1)",
            "RuntimeError: start_response() argument 'exc_info' must be a 3-tuple or None",
        ),
        (
            "start_response('200 OK')",
            "TypeError: start_response() takes 2 or 3 arguments (1 given)",
        ),
        (
            "start_response('200 OK', [], None, 4)",
            "TypeError: start_response() takes 2 or 3 arguments (4 given)",
        ),
        ("start_response(200, [])", "TypeError: must be str, not int"),
        (
            "start_response(b'200 OK', [])",
            "TypeError: must be str, not bytes",
        ),
        (
            "start_response('20 OK', [])",
            "ValueError: status code must be a 3 digit integer: b'20 OK'",
        ),
        (
            "start_response('', [])",
            "ValueError: status code must be a 3 digit integer: b''",
        ),
        (
            "start_response('2000', [])",
            "ValueError: no space following status code: b'2000'",
        ),
        (
            "start_response('200 O\\nK', [])",
            "ValueError: control character in status reason phrase: b'200 O\\nK'",
        ),
        (
            "start_response('000 Zero', [])",
            "ValueError: status code of a final response must be from 200 to 599: b'000 Zero'",
        ),
        (
            "start_response('099', [])",
            "ValueError: status code of a final response must be from 200 to 599: b'099'",
        ),
        (
            "start_response('103 Early Hints', [])",
            "ValueError: status code of a final response must be from 200 to 599: b'103 Early Hints'",
        ),
        (
            "start_response('199 x', [])",
            "ValueError: status code of a final response must be from 200 to 599: b'199 x'",
        ),
        (
            "start_response('600 x', [])",
            "ValueError: status code of a final response must be from 200 to 599: b'600 x'",
        ),
        (
            "start_response('200 OK', [1])",
            "TypeError: each header must be a 2-tuple, not int",
        ),
        (
            "start_response('200 OK', [['A', 'b']])",
            "TypeError: each header must be a 2-tuple, not list",
        ),
        (
            "start_response('200 OK', [('A', 'b', 'c')])",
            "ValueError: each header must be a 2-tuple, got length 3",
        ),
        (
            "start_response('200 OK', [(b'A', 'b')])",
            "TypeError: must be str, not bytes",
        ),
        (
            "start_response('200 OK', [('A', 1)])",
            "TypeError: must be str, not int",
        ),
        (
            "start_response('200 OK', [('', 'b')])",
            "ValueError: header name is empty",
        ),
        (
            "start_response('200 OK', [('A B', 'c')])",
            "ValueError: space character in header name: b'A B'",
        ),
        (
            "start_response('200 OK', [('A\\r', 'c')])",
            "ValueError: control character in header name: b'A\\r'",
        ),
        (
            "start_response('200 OK', [('A:', 'c')])",
            "ValueError: invalid character in header name: b'A:'",
        ),
        (
            "start_response('200 OK', [('A', 'b\\r\\nc')])",
            "ValueError: carriage return/line feed character in header value: b'b\\r\\nc'",
        ),
        (
            "start_response('200 OK', [('A', 'b\\0')])",
            "ValueError: control character in header value: b'b\\x00'",
        ),
        (
            "start_response('200 OK', [('Content-Length', '-1')])",
            "ValueError: content length is not a non-negative integer: b'-1'",
        ),
    ] {
        assert_eq!(ask(call), expected, "{call}");
    }
    for call in [
        "start_response('200 \\u0142', [])",
        "start_response('200 OK', [('A', '\\u0142')])",
    ] {
        assert!(
            ask(call).starts_with("UnicodeEncodeError: 'latin-1' codec"),
            "{call}"
        );
    }
}

#[test]
fn accepts() {
    for call in [
        "start_response('200', [])",
        "start_response('200 ', [])",
        "start_response('200 caf\\xe9', [])",
        "start_response('599 \\xff', [('X-Name', 'caf\\xe9'), ('X-Name', '')], None)",
        "start_response('200 OK', type('L', (list,), {})([type('T', (tuple,), {})(('A', 'b\\tc'))]))",
    ] {
        assert!(
            ask(call).starts_with("<built-in method write of mod_wsgi.Adapter object"),
            "{call}"
        );
    }
}

/// All of the declared length waits to be sent with the end, and still counts as output.
#[test]
fn a_complete_response_cannot_be_changed() {
    let late = "start_response('404 Not Found', [('Content-Length', '9')]";
    for (again, error) in [
        (
            format!("{late})"),
            "RuntimeError: start_response() called more than once without exc_info",
        ),
        (
            format!("{late}, None)"),
            "RuntimeError: start_response() called more than once without exc_info",
        ),
        (
            format!("try: 1/0\nexcept ZeroDivisionError: {late}, sys.exc_info())"),
            "ZeroDivisionError: division by zero",
        ),
    ] {
        let exchange = Script::app(&format!(
            "start_response('200 OK', [('Content-Length', '5')])\nyield b'hello'\n{again}\nyield b'not found'"
        ))
        .run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{exchange:?}"
        );
        assert_eq!(exchange.status_line, "200 OK");
        assert_eq!(exchange.content_length, Some(5));
        assert_eq!(exchange.text(), "hello");
        assert!(exchange.logged(error), "{again}: {exchange:?}");
    }
}

#[test]
fn what_was_committed_cannot_be_changed() {
    let script = Script::app(
        "start_response('200 OK', [])(b'committed ')\n\
         yield attempt(start_response, '200 OK', []).encode()\n\
         try: 1/0\n\
         except ZeroDivisionError: exc_info = sys.exc_info()\n\
         trace = exc_info[2]\n\
         try: start_response('500 No', [], exc_info)\n\
         except ZeroDivisionError as error: yield b' %r' % (error is exc_info[1] and error.__traceback__ is not None)\n\
         yield b' ' + attempt(start_response, '200 OK', [], (1, 2)).encode()\n\
         yield b' ' + attempt(start_response, '200 OK', [], (1, 2, 3)).encode()\n\
         yield b' ' + attempt(start_response, '200 OK', [], (ValueError, ValueError(7), 3)).encode()\n\
         yield b' ' + attempt(start_response, '200 OK', [], (ValueError, ValueError(7), None)).encode()\n",
    );
    let exchange = script.run();
    assert_eq!(
        exchange.text(),
        "committed RuntimeError: start_response() called more than once without exc_info True \
         RuntimeError: start_response() argument 'exc_info' must be a 3-tuple or None \
         RuntimeError: start_response() argument 'exc_info' holds no exception \
         TypeError: __traceback__ must be a traceback or None \
         ValueError: 7"
    );
    assert_eq!(exchange.status_line, "200 OK");
}

/// Arguments first, then the state of the response, then status and headers one by one.
#[test]
fn checks_in_mod_wsgis_order() {
    let committed = Script::app(
        "start_response('200 OK', [])(b'')\n\
         yield attempt(start_response, 1, 2, 3).encode() + b'|'\n\
         yield attempt(start_response, 1, [], 3).encode() + b'|'\n\
         yield attempt(start_response, 1, [2]).encode()\n",
    );
    assert_eq!(
        committed.text(),
        "TypeError: start_response() argument 2 must be list, not int|\
         RuntimeError: start_response() argument 'exc_info' must be a 3-tuple or None|\
         RuntimeError: start_response() called more than once without exc_info"
    );
    assert_eq!(
        ask("start_response('2', [3])"),
        "ValueError: status code must be a 3 digit integer: b'2'"
    );
    assert_eq!(
        ask("start_response('200', [('A\\n', 'b'), 3])"),
        "ValueError: control character in header name: b'A\\n'"
    );
}

#[test]
fn a_second_call_before_any_output_replaces_the_first() {
    let script = Script::app(
        "start_response('201 First', [('A', '1'), ('Content-Length', '99')])\n\
         start_response('202 Second', [('B', '2'), ('B', '3')])\n\
         return [b'body']",
    );
    let exchange = script.run();
    assert_eq!(exchange.status_line, "202 Second");
    assert_eq!(
        exchange.headers,
        [("B".into(), "2".into()), ("B".into(), "3".into())]
    );
    assert_eq!(exchange.content_length, Some(4));
}

#[test]
fn exc_info_before_any_output_replaces_too() {
    let script = Script::app(
        "start_response('200 OK', [])\n\
         try: 1/0\n\
         except ZeroDivisionError: start_response('500 Failed', [], sys.exc_info())\n\
         return [b'page']",
    );
    let exchange = script.run();
    assert_eq!(
        (exchange.status_line.as_str(), exchange.text().as_str()),
        ("500 Failed", "page")
    );
}

#[test]
fn a_refused_call_leaves_the_earlier_one() {
    let script = Script::app(
        "start_response('200 OK', [('A', '1')])\n\
         attempt(start_response, '500 Failed', [('B\\n', '2')])\n\
         return [b'']",
    );
    let exchange = script.run();
    assert_eq!(exchange.status_line, "200 OK");
    assert_eq!(exchange.headers, [("A".into(), "1".into())]);
}

#[test]
fn hop_by_hop_headers_are_dropped() {
    let script = Script::app(
        "start_response('200 OK', [('Connection', 'close'), ('Connection', 'upgrade'), ('Transfer-Encoding', 'chunked'), ('A', '1')])\n\
         return [b'']",
    );
    let exchange = script.run();
    assert_eq!(
        exchange.headers,
        [
            ("Connection".into(), "close".into()),
            ("A".into(), "1".into())
        ]
    );
    assert!(exchange.logged("response header 'Transfer-Encoding' was dropped"));
}

#[test]
fn many_headers_arrive_in_order() {
    let script = Script::app(
        "start_response('200 OK', [(f'X-{at}', str(at)) for at in range(100)])\nreturn [b'']",
    );
    let exchange = script.run();
    let expected: Vec<_> = (0..100)
        .map(|at| (format!("X-{at}"), at.to_string()))
        .collect();
    assert_eq!(exchange.headers, expected);
}

#[test]
fn after_the_request_it_is_dead() {
    let script = Script::new(
        "kept = []\n\
         def application(environ, start_response):\n\
         \x20   if kept:\n\
         \x20       text = '|'.join([attempt(kept[0], '200 OK', []), attempt(kept[1], b'late')])\n\
         \x20       return respond(start_response, text)\n\
         \x20   kept.extend([start_response, start_response('200 OK', [])])\n\
         \x20   return [b'first']\n",
    );
    assert_eq!(script.text(), "first");
    let dead = "RuntimeError: the request of this start_response() has ended";
    assert_eq!(script.text(), format!("{dead}|{dead}"));
}

#[test]
fn write_sends_at_once() {
    let script = Script::app(
        "write = start_response('200 OK', [])\n\
         write(b'')\n\
         write(b'one ')\n\
         refused = attempt(write, 'text') + '|' + attempt(write)\n\
         write(b'two ')\n\
         return [b'three ', refused.encode()]",
    );
    let exchange = script.run();
    let expected = [
        ("", WriteEnd::Flush),
        ("one ", WriteEnd::More),
        ("two ", WriteEnd::More),
        (
            "three TypeError: write() argument 1 must be bytes, not str|\
             TypeError: write() takes exactly 1 argument (0 given)",
            WriteEnd::End,
        ),
    ];
    assert!(
        super::body::same(&exchange.pieces(), &expected),
        "{exchange:?}"
    );
    assert_eq!(exchange.content_length, None);
}

#[test]
fn write_without_a_client_raises() {
    let script = Script::app(
        "write = start_response('200 OK', [])\n\
         write(b'one')\n\
         write(b'two')\n\
         write(b'three')",
    );
    let exchange = script.request().aborted_after(1).run();
    assert!(exchange.is(RunOutcome::Responded));
    assert!(!exchange.cut && exchange.text() == "one");
    assert!(exchange.logged("OSError exception raised processing WSGI script"));
    assert!(exchange.logged("OSError: client connection closed"));
}

/// The response may be committed while a subscriber of `response_started` runs. The head must not be sent twice.
#[test]
fn a_commit_from_inside_start_response_counts() {
    let script = Script::new(
        "import mod_wsgi\n\
         current = []\n\
         def subscriber(name, **payload):\n\
         \x20   if name == 'response_started' and current: current.pop()(b'inner ')\n\
         mod_wsgi.subscribe_events(subscriber)\n\
         def application(environ, start_response):\n\
         \x20   write = start_response('200 OK', [])\n\
         \x20   current.append(write)\n\
         \x20   return [attempt(start_response, '404 Not', []).encode()]\n",
    );
    let exchange = script.request().group("commit-inside").run();
    assert_eq!(
        exchange.text(),
        "inner RuntimeError: start_response() called more than once without exc_info"
    );
    assert_eq!(exchange.status_line, "200 OK");
}

/// The status, the declared length if there is one, how the body is given, the length that the host gets, and whether
/// the log says that a body was left out.
#[test]
fn statuses_without_a_body() {
    for (status, declared, how, told, said) in [
        (204, None, "return []", None, false),
        (204, None, "return [b'a body!']", None, true),
        (204, Some(7), "return [b'a body!']", None, true),
        (204, Some(7), "return [b'a ', b'body!']", None, true),
        (204, Some(0), "return (b'',)", None, false),
        (
            204,
            None,
            "return (x for x in [b'a ', b'body!'])",
            None,
            true,
        ),
        (
            204,
            Some(7),
            "return (x for x in [b'a ', b'body!'])",
            None,
            true,
        ),
        (204, None, "write(b'a body!')\nreturn []", None, true),
        (204, Some(7), "write(b'a ')\nreturn [b'body!']", None, true),
        (204, None, "return [bytes(100_000), b'x']", None, true),
        (205, None, "return []", Some(0), false),
        (205, None, "return [b'a body!']", Some(0), true),
        (205, Some(7), "return [b'a body!']", Some(0), true),
        (
            205,
            None,
            "return (x for x in [b'a ', b'body!'])",
            Some(0),
            true,
        ),
        (
            205,
            Some(7),
            "return (x for x in [b'a ', b'body!'])",
            Some(0),
            true,
        ),
        (205, Some(7), "write(b'a body!')\nreturn []", Some(0), true),
        (205, None, "return [bytes(100_000)]", Some(0), true),
        (304, None, "return []", None, false),
        (304, None, "return [b'a body!']", None, true),
        // The length of the response that the client has already.
        (304, Some(7), "return []", Some(7), false),
        (304, Some(7), "return [b'a body!']", Some(7), true),
        (
            304,
            Some(7),
            "return (x for x in [b'a ', b'body!'])",
            Some(7),
            true,
        ),
    ] {
        let headers = declared.map_or(String::new(), |length| {
            format!("('Content-Length', '{length}')")
        });
        let script = Script::app(&format!(
            "write = start_response('{status} X', [{headers}])\n{how}"
        ));
        let case = format!("{status} {declared:?} {how}");
        let exchange = script.run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{case}: {exchange:?}"
        );
        assert_eq!(exchange.status_line, format!("{status} X"), "{case}");
        assert_eq!(exchange.content_length, told, "{case}");
        assert_eq!(exchange.text(), "", "{case}");
        assert_eq!(exchange.logged("WSGI1075"), said, "{case}: {exchange:?}");
        // A request for the head has lost no body.
        let head = script.request().header_only().run();
        assert_eq!(head.content_length, told, "{case}");
        assert!(!head.logged("WSGI1075"), "{case}");
    }
}

#[test]
fn a_file_for_a_status_without_a_body_is_not_sent() {
    for (status, told) in [(204, None), (205, Some(0)), (304, None)] {
        let exchange = Script::app(&format!(
            "start_response('{status} X', [])\n\
             return environ['wsgi.file_wrapper'](open(__file__, 'rb'))"
        ))
        .run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{exchange:?}"
        );
        assert!(exchange.file.is_none(), "{status}");
        assert_eq!(
            (exchange.content_length, exchange.text().as_str()),
            (told, ""),
            "{status}"
        );
    }
}

/// A second status that is refused leaves the first one in place.
#[test]
fn a_replacement_is_checked_as_well() {
    let exchange = Script::app(
        "start_response('404 Not Found', [])\n\
         try: 1/0\n\
         except ZeroDivisionError: said = attempt(start_response, '102 Processing', [], sys.exc_info())\n\
         return [said.encode()]",
    )
    .run();
    assert_eq!(exchange.status_line, "404 Not Found");
    assert_eq!(
        exchange.text(),
        "ValueError: status code of a final response must be from 200 to 599: b'102 Processing'"
    );
}

/// Sizes around the limit up to which a body is collected, and around the number of headers that needs no allocation.
#[test]
fn limits_are_crossed_whole() {
    let limit = crate::request::response::COLLECT_LIMIT;
    for size in [limit - 1, limit, limit + 1] {
        for (how, declared) in [
            (format!("return [bytes({size})]"), None),
            (format!("return (bytes({size} - 1), b'x')"), None),
            (format!("write(b'x')\nreturn [bytes({size} - 1)]"), None),
            (format!("return iter([bytes({size})])"), None),
            (format!("return iter([bytes({size})])"), Some(size)),
            (
                format!("return iter([bytes({size} - 1), b'x'])"),
                Some(size),
            ),
            (
                format!("return iter([bytes({size}), b'surplus'])"),
                Some(size),
            ),
        ] {
            let headers = declared.map_or(String::new(), |length| {
                format!("('Content-Length', '{length}')")
            });
            let exchange = Script::app(&format!(
                "write = start_response('200 OK', [{headers}])\n{how}"
            ))
            .run();
            assert!(
                exchange.is(RunOutcome::Responded) && !exchange.cut,
                "{size} {how}"
            );
            assert_eq!(exchange.bytes().len(), size, "{how}");
            let end = exchange.writes.last().map(|(_, end)| *end);
            assert!(
                matches!(end, Some(WriteEnd::End | WriteEnd::EndNow)),
                "{how}: {end:?}"
            );
        }
    }
    for count in [0, 23, 24, 25, 200] {
        let exchange = Script::app(&format!(
            "start_response('200 OK', [(f'X-{{at}}', str(at)) for at in range({count})])\nreturn []"
        ))
        .run();
        let expected: Vec<_> = (0..count)
            .map(|at| (format!("X-{at}"), at.to_string()))
            .collect();
        assert_eq!(exchange.headers, expected);
    }
}
