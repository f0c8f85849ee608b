//! The environ: types, decoding, order of entries, and values that are used again.

use wsgi_abi::keys;

use super::{Script, ask};

#[test]
fn entries_that_all_requests_have() {
    for (key, expected) in [
        ("wsgi.version", "(1, 0)"),
        ("wsgi.url_scheme", "'http'"),
        ("wsgi.multithread", "True"),
        ("wsgi.multiprocess", "False"),
        ("wsgi.run_once", "False"),
        ("wsgi.input_terminated", "True"),
        ("wsgi.file_wrapper", "<class 'mod_wsgi.FileWrapper'>"),
        ("apache.version", "(2, 4, 57)"),
        ("mod_wsgi.version", "(6, 1, 1)"),
        ("mod_wsgi.request_start", "1700000000.25"),
        ("mod_wsgi.queue_start", "0.0"),
        ("mod_wsgi.daemon_start", "0.0"),
        ("SERVER_SOFTWARE", "'Test/1.0'"),
    ] {
        assert_eq!(ask(&format!("repr(environ['{key}'])")), expected, "{key}");
    }
    assert_eq!(ask("type(environ) is dict"), "True");
    assert_eq!(ask("type(environ['mod_wsgi.thread_id'])"), "<class 'int'>");
    assert_eq!(ask("environ['mod_wsgi.application_start'] > 1.7e9"), "True");
    assert_eq!(ask("'apache.request_rec' in environ"), "False");
}

#[test]
fn given_entries() {
    let script = Script::app(
        "return respond(start_response, ascii(environ.get(environ['which'], 'missing')))",
    );
    for (which, expected) in [
        ("REQUEST_METHOD", "'P\\xd6ST'"),
        ("REMOTE_PORT", "'1234'"),
        // Decoded by the file-system encoding, which is UTF-8 here. Bytes that do not decode are restored by
        // os.fsencode().
        ("SCRIPT_FILENAME", "'/caf\\xe9/\\udcff'"),
        ("DOCUMENT_ROOT", "'/caf\\xe9'"),
        ("HTTP_X_CAF_", "'missing'"),
        ("HTTP_X_NAME_TWO", "'v\\xe9'"),
        ("HTTP_EMPTY", "''"),
        ("UNIQUE_ID", "'\\xff'"),
        ("k\u{e9}y", "'literal'"),
        ("nothing", "None"),
        ("twice", "'second'"),
        ("wsgi.multithread", "True"),
        ("wsgi.url_scheme", "'http'"),
    ] {
        let request = script
            .request()
            .known(keys::REQUEST_METHOD, b"P\xd6ST")
            .known(keys::REMOTE_PORT, b"1234")
            .known(keys::SCRIPT_FILENAME, b"/caf\xc3\xa9/\xff")
            .known(keys::DOCUMENT_ROOT, b"/caf\xc3\xa9")
            .header("X-Name-two", b"v\xe9")
            .header("Empty", b"")
            .literal(b"UNIQUE_ID", Some(b"\xff"))
            .literal(b"k\xe9y", Some(b"literal"))
            .literal(b"nothing", None)
            .literal(b"twice", Some(b"first"))
            .literal(b"twice", Some(b"second"))
            .literal(b"wsgi.multithread", Some(b"overridden"));
        let which = which.chars().map(|char| char as u8).collect::<Vec<_>>();
        assert_eq!(request.literal(b"which", Some(&which)).text(), expected);
    }
}

#[test]
fn https_and_the_request_of_apache() {
    let script = Script::app(
        "record = environ['apache.request_rec']\n\
         return respond(start_response, environ['wsgi.url_scheme'] + ' ' + type(record).__name__)",
    );
    let mut request = script.request();
    request.https = true;
    request.apache_request = std::ptr::without_provenance_mut(0x1000);
    assert_eq!(request.text(), "https PyCapsule");
}

/// A value that seldom changes is the same object in the next request, and another object after a change.
#[test]
fn steady_values_are_used_again() {
    let script = Script::new(
        "seen = []\n\
         def application(environ, start_response):\n\
         \x20   seen.append(environ['SERVER_NAME'])\n\
         \x20   return respond(start_response, (seen[-1], seen[-1] is seen[0], seen[0]))\n",
    );
    let run = |name: &[u8]| {
        script
            .request()
            .group("steady")
            .known(keys::SERVER_NAME, name)
            .text()
    };
    assert_eq!(run(b"one.example"), "('one.example', True, 'one.example')");
    assert_eq!(run(b"one.example"), "('one.example', True, 'one.example')");
    assert_eq!(run(b"two.example"), "('two.example', False, 'one.example')");
    assert_eq!(run(b"one.example"), "('one.example', False, 'one.example')");
}

/// Clients choose header names. The table of kept names is bounded, and a full table still gives right answers.
#[test]
fn more_headers_than_are_kept() {
    let script = Script::app(
        "return respond(start_response, sum(key.startswith('HTTP_M') for key in environ))",
    );
    let mut request = script.request().group("headers");
    for at in 0..2000 {
        request = request.header(&format!("M{at}"), b"");
    }
    assert_eq!(request.text(), "2000");
}

#[test]
fn variables_of_mod_ssl() {
    let script = Script::app(
        "owner = start_response.__self__\n\
         answers = [owner.ssl_is_https(), owner.ssl_var_lookup('SSL_CLIENT_S_DN'), owner.ssl_var_lookup('NONE'),\n\
         \x20   attempt(owner.ssl_var_lookup), attempt(owner.ssl_var_lookup, 1)]\n\
         return respond(start_response, ascii(answers))",
    );
    assert_eq!(
        script.text(),
        "[True, 'CN=caf\\xe9', None, 'TypeError: ssl_var_lookup() takes exactly 1 argument (0 given)', \
         'TypeError: must be str, not int']"
    );
}

#[test]
fn the_environ_is_the_applications_own() {
    let script = Script::app(
        "before = dict(environ)\n\
         environ.clear()\n\
         return respond(start_response, len(before) > 10)",
    );
    assert_eq!(script.text(), "True");
    assert_eq!(script.text(), "True");
}

/// A limited number of keys is kept for the next request. The others are made anew and not interned, because some
/// versions of Python never free an interned string.
#[test]
fn more_header_names_than_are_kept() {
    let script = Script::app(
        "keys = [key for key in environ if key.startswith('HTTP_X_MANY_')]\n\
         right = all(environ[f'HTTP_X_MANY_{n}'] == f'{n} {environ[\"turn\"]}' for n in range(600))\n\
         interned = sum(sys.intern(''.join(list(key))) is key for key in keys)\n\
         return respond(start_response, (len(keys), right, interned))",
    );
    for turn in ["first", "second", "third"] {
        let mut request = script
            .request()
            .group("many-names")
            .literal(b"turn", Some(turn.as_bytes()));
        for number in 0..600 {
            request = request.header(
                &format!("X-Many-{number}"),
                format!("{number} {turn}").as_bytes(),
            );
        }
        assert_eq!(request.text(), "(600, True, 512)", "{turn}");
    }
}

/// Variables of the request do not replace computed entries.
#[test]
fn computed_entries_stay() {
    for (key, expected) in [
        ("wsgi.url_scheme", "'http'"),
        ("wsgi.multithread", "True"),
        ("wsgi.version", "(1, 0)"),
        ("SERVER_SOFTWARE", "'Test/1.0'"),
        ("mod_wsgi.version", "(6, 1, 1)"),
    ] {
        let script = Script::app(&format!(
            "return respond(start_response, repr(environ['{key}']))"
        ));
        let request = script
            .request()
            .literal(key.as_bytes(), Some(b"overridden"));
        assert_eq!(request.text(), expected, "{key}");
    }
}
