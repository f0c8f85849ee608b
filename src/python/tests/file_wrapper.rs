//! `wsgi.file_wrapper`: when the host sends the file itself, and what otherwise.

use wsgi_abi::RunOutcome;

use super::{ERROR, Script, ask};

/// What is wrapped (of a file that holds "0123456789"), the headers, whether the host sends the file, and the body.
#[test]
fn regular_files_are_sent_by_the_host() {
    let length_4 = "('Content-Length', '4')";
    for (wrapped, headers, by_host, body) in [
        ("wrap(open(path, 'rb'))", "", true, "0123456789"),
        (
            "wrap(open(path, 'rb', buffering=0))",
            "",
            true,
            "0123456789",
        ),
        ("wrap(open(path, 'rb'), 3)", "", true, "0123456789"),
        ("wrap(seeked(open(path, 'rb'), 4))", "", true, "456789"),
        ("wrap(seeked(open(path, 'rb'), 40))", "", true, ""),
        ("wrap(open(path, 'rb'))", length_4, true, "0123"),
        ("wrap(seeked(open(path, 'rb'), 8))", length_4, true, "89"),
        (
            "type('Sub', (wrap,), {})(open(path, 'rb'))",
            "",
            true,
            "0123456789",
        ),
        ("wrap(io.BytesIO(b'memory'))", "", false, "memory"),
        ("wrap(io.BytesIO(b'memory'), 2)", length_4, false, "memo"),
        ("wrap(open('/dev/null', 'rb'))", "", false, ""),
        ("wrap(NoTell(path))", "", false, "0123456789"),
        ("wrap(BadNumber())", "", false, "x"),
        (
            "type('Sub', (wrap,), {'filelike': io.BytesIO(b'other')})(open(path, 'rb'))",
            "",
            false,
            "other",
        ),
        ("iter([b'plain'])", "", false, "plain"),
    ] {
        let script = Script::app(&format!(
            "import io, os\n\
             path = os.path.join(os.path.dirname(__file__), 'data')\n\
             with open(path, 'wb') as file: file.write(b'0123456789')\n\
             def seeked(file, at):\n\
             \x20   file.seek(at)\n\
             \x20   return file\n\
             class NoTell(io.FileIO):\n\
             \x20   def tell(self): raise OSError('no position')\n\
             class BadNumber:\n\
             \x20   left = [b'x', b'']\n\
             \x20   def fileno(self): return 1 << 40\n\
             \x20   def tell(self): return 0\n\
             \x20   def read(self, size): return self.left.pop(0)\n\
             wrap = environ['wsgi.file_wrapper']\n\
             start_response('200 OK', [{headers}])\n\
             return {wrapped}"
        ));
        let exchange = script.run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{wrapped}: {exchange:?}"
        );
        assert_eq!(exchange.file.is_some(), by_host, "{wrapped}");
        assert_eq!(exchange.text(), body, "{wrapped}");
        if by_host {
            assert_eq!(
                exchange.content_length,
                Some(body.len() as u64),
                "{wrapped}"
            );
        }
    }
}

#[test]
fn after_a_write_it_is_iterated_over() {
    let script = Script::app(
        "start_response('200 OK', [])(b'first ')\nreturn environ['wsgi.file_wrapper'](open(__file__, 'rb'))",
    );
    let exchange = script.run();
    assert!(exchange.file.is_none());
    assert!(exchange.text().starts_with("first \nimport sys"));
}

#[test]
fn the_file_is_closed_before_it_is_sent() {
    let script = Script::new(
        "closed = 0\n\
         class File:\n\
         \x20   def __init__(self): self.file = open(__file__, 'rb')\n\
         \x20   def __getattr__(self, name): return getattr(self.file, name)\n\
         \x20   def close(self):\n\
         \x20       global closed\n\
         \x20       closed += 1\n\
         \x20       self.file.close()\n\
         def application(environ, start_response):\n\
         \x20   start_response('200 OK', [])\n\
         \x20   return environ['wsgi.file_wrapper'](File())\n\
         def count(environ, start_response): return respond(start_response, closed)\n",
    );
    let exchange = script.run();
    assert!(
        exchange
            .file
            .is_some_and(|file| file.ends_with(b"respond(start_response, closed)\n"))
    );
    assert_eq!(script.request().callable("count").text(), "1");
}

#[test]
fn a_client_that_has_left() {
    let script = Script::app(
        "start_response('200 OK', [])\nreturn environ['wsgi.file_wrapper'](open(__file__, 'rb'))",
    );
    let exchange = script.request().aborted_after(0).run();
    assert!(exchange.is(RunOutcome::Responded) && exchange.file.is_none());
    assert!(exchange.lines(ERROR).is_empty());
}

#[test]
fn without_start_response() {
    let script = Script::app("return environ['wsgi.file_wrapper'](open(__file__, 'rb'))");
    let exchange = script.run();
    assert!(exchange.is(RunOutcome::Failed));
    assert!(exchange.logged("response has not been started"));
}

#[test]
fn as_an_object() {
    for (expression, expected) in [
        (
            "environ['wsgi.file_wrapper']",
            "<class 'mod_wsgi.FileWrapper'>",
        ),
        ("wrap(io.BytesIO(b'abcde'), 2).blksize", "2"),
        ("wrap(filelike=io.BytesIO(), blksize=2).blksize", "2"),
        ("wrap(io.BytesIO()).blksize", "8192"),
        (
            "list(wrap(io.BytesIO(b'abcde'), 2))",
            "[b'ab', b'cd', b'e']",
        ),
        (
            "wrap(io.BytesIO(), -1)",
            "ValueError: blksize must be a non-negative integer",
        ),
        (
            "wrap(io.BytesIO(), 'x')",
            "TypeError: 'str' object cannot be interpreted as an integer",
        ),
        (
            "list(wrap(io.StringIO('abc')))",
            "TypeError: file like object yielded non-bytes value of type 'str'",
        ),
        (
            "setattr(wrap(io.BytesIO()), 'blksize', 3)",
            "AttributeError",
        ),
        (
            "setattr(wrap(io.BytesIO()), 'filelike', 3)",
            "AttributeError",
        ),
        (
            "(w := wrap(io.BytesIO()), w.close(), w.close(), w.filelike)",
            "ValueError: I/O operation on closed file",
        ),
        (
            "(w := wrap(io.BytesIO()), w.close(), list(w))",
            "ValueError: I/O operation on closed file",
        ),
        ("(w := wrap(object()), w.close())[1]", "None"),
    ] {
        let expression = expression
            .replace("wrap(", "environ['wsgi.file_wrapper'](")
            .replace("io.", "__import__('io').");
        let answer = ask(&expression);
        assert!(answer.starts_with(expected), "{expression}: {answer}");
    }
}
