//! `wsgi.file_wrapper`: when the host sends the file itself, and what is sent otherwise.

use wsgi_abi::RunOutcome;

use super::{ERROR, Script, ask};

/// The wrapped object (over a file with the content "0123456789"), the headers, whether the host sends the file, and
/// the body.
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
        ("wrap(seeked(open(path, 'rb'), 9))", "", true, "9"),
        ("wrap(seeked(open(path, 'rb'), 10))", "", false, ""),
        ("wrap(seeked(open(path, 'rb'), 40))", "", false, ""),
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
        // Subclasses are read.
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

/// The expression for the file (`path` has the content "0123456789", and `plain` opens it), whether the host sends the
/// file, and what `read()` gives.
#[test]
fn what_read_gives_is_sent() {
    for (file, by_host, body) in [
        ("plain()", true, "0123456789"),
        ("moved(plain())", true, "3456789"),
        ("moved(open(path, 'rb', buffering=0))", true, "3456789"),
        ("moved(open(path, 'rb', buffering=2))", true, "3456789"),
        ("moved(open(path, 'r+b'))", true, "3456789"),
        ("moved(open(path, 'r+b', buffering=0))", true, "3456789"),
        ("io.BufferedReader(io.FileIO(path))", true, "0123456789"),
        ("io.FileIO(os.open(path, os.O_RDONLY))", true, "0123456789"),
        // Written data belongs to the file.
        ("written(open(path, 'r+b'))", true, "56789"),
        ("written(tempfile.TemporaryFile(), 0)", true, "WRITE"),
        ("written(tempfile.NamedTemporaryFile(), 0)", false, "WRITE"),
        // Files with another `read()`.
        ("compressed(gzip)", false, "aaaaa"),
        ("compressed(bz2)", false, "aaaaa"),
        ("compressed(lzma)", false, "aaaaa"),
        ("zipped()", false, "aaaaa"),
        (
            "written(tempfile.SpooledTemporaryFile(100), 0)",
            false,
            "WRITE",
        ),
        ("Upper(plain())", false, "UPPER"),
        (
            "subclass(io.BufferedReader, read=upper)(io.FileIO(path))",
            false,
            "UPPER",
        ),
        ("subclass(io.FileIO, read=upper)(path)", false, "UPPER"),
        (
            "subclass(io.BufferedRandom, read=upper)(io.FileIO(path, 'r+'))",
            false,
            "UPPER",
        ),
        (
            "changed(open(path, 'rb', buffering=0), read=Calls(b'changed', b''))",
            false,
            "changed",
        ),
        (
            "changed(plain(), read=Calls(b'changed', b''))",
            false,
            "changed",
        ),
        (
            "changed(plain(), read=io.BytesIO(b'other').read)",
            false,
            "other",
        ),
        (
            "changed(plain(), read=open(path2, 'rb').read)",
            true,
            "second",
        ),
        // A buffer's `read()` calls these methods.
        (
            "io.BufferedReader(subclass(io.FileIO, readinto=dots)(path))",
            false,
            "...",
        ),
        (
            "io.BufferedReader(subclass(io.RawIOBase, readinto=dots, readable=yes, fileno=lambda _: os.open(path, 0))())",
            false,
            "...",
        ),
        ("below(plain(), readinto=Into(b'below'))", false, "below"),
        // Methods that `read()` does not call.
        (
            "subclass(io.FileIO, close=lambda self: None)(path)",
            false,
            "0123456789",
        ),
        (
            "subclass(io.FileIO, fileno=lambda self: 0, tell=lambda self: 5)(path)",
            false,
            "0123456789",
        ),
        (
            "subclass(io.BufferedReader, fileno=lambda self: 0, seek=None)(io.FileIO(path))",
            false,
            "0123456789",
        ),
        (
            "changed(plain(), close=lambda: None, fileno=lambda: 0, tell=lambda: 4)",
            true,
            "0123456789",
        ),
        // As in Django: `read` is the method of the file inside.
        ("Proxy(plain())", true, "0123456789"),
        ("Proxy(io.BytesIO(b'memory'))", false, "memory"),
        // Files that httpd cannot send.
        ("pipe()", false, "piped"),
        ("connection()", false, "socket"),
        ("open('/proc/self/comm', 'rb')", false, "*"),
        ("open('/proc/self/cmdline', 'rb', buffering=0)", false, "*"),
        (
            "open('/sys/kernel/mm/transparent_hugepage/enabled', 'rb')",
            false,
            "*",
        ),
        ("sparse()", true, "\0\0\0\0\0"),
    ] {
        let script = Script::app(&format!(
            "import bz2, gzip, io, lzma, os, socket, tempfile, zipfile\n\
             path = os.path.join(os.path.dirname(__file__), 'data')\n\
             path2 = path + '2'\n\
             with open(path, 'wb') as f: f.write(b'0123456789')\n\
             with open(path2, 'wb') as f: f.write(b'second')\n\
             plain = lambda: open(path, 'rb')\n\
             yes = lambda self: True\n\
             def moved(f):\n\
             \x20   f.read(3)\n\
             \x20   return f\n\
             def written(f, to=None):\n\
             \x20   f.write(b'WRITE')\n\
             \x20   if to is not None: f.seek(to)\n\
             \x20   return f\n\
             def compressed(module):\n\
             \x20   with module.open(path2, 'wb') as f: f.write(b'aaaaa')\n\
             \x20   return module.open(path2, 'rb')\n\
             def zipped():\n\
             \x20   with zipfile.ZipFile(path2, 'w') as z: z.writestr('a', b'aaaaa')\n\
             \x20   return zipfile.ZipFile(path2).open('a')\n\
             class Calls:\n\
             \x20   def __init__(self, *answers): self.answers = list(answers)\n\
             \x20   def __call__(self, size): return self.answers.pop(0)\n\
             class Into:\n\
             \x20   def __init__(self, data): self.data = data\n\
             \x20   def __call__(self, into):\n\
             \x20       data, self.data = self.data, b''\n\
             \x20       into[:len(data)] = data\n\
             \x20       return len(data)\n\
             def upper(self, size=-1):\n\
             \x20   done, self.done = getattr(self, 'done', False), True\n\
             \x20   return b'' if done else b'UPPER'\n\
             def dots(self, into):\n\
             \x20   done, self.done = getattr(self, 'done', False), True\n\
             \x20   if done: return 0\n\
             \x20   into[:3] = b'...'\n\
             \x20   return 3\n\
             def subclass(base, **members): return type('Sub', (base,), members)\n\
             def changed(f, **members):\n\
             \x20   vars(f).update(members)\n\
             \x20   return f\n\
             def below(f, **members):\n\
             \x20   changed(f.raw, **members)\n\
             \x20   return f\n\
             class Upper:\n\
             \x20   def __init__(self, f): self.f = f\n\
             \x20   def __getattr__(self, name): return getattr(self.f, name)\n\
             \x20   read = upper\n\
             class Proxy:\n\
             \x20   def __init__(self, f): self.f = f\n\
             \x20   read = property(lambda self: self.f.read)\n\
             def pipe():\n\
             \x20   r, w = os.pipe()\n\
             \x20   os.write(w, b'piped')\n\
             \x20   os.close(w)\n\
             \x20   return open(r, 'rb')\n\
             def connection():\n\
             \x20   a, b = socket.socketpair()\n\
             \x20   with b: b.sendall(b'socket')\n\
             \x20   return a.makefile('rb')\n\
             def sparse():\n\
             \x20   open(path2, 'wb').truncate(5)\n\
             \x20   return open(path2, 'rb')\n\
             start_response('200 OK', [])\n\
             return environ['wsgi.file_wrapper']({file})"
        ));
        let exchange = script.run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{file}: {exchange:?}"
        );
        assert_eq!(exchange.file.is_some(), by_host, "{file}");
        match body {
            "*" => assert!(
                !exchange.text().is_empty() && exchange.text().len() < 4096,
                "{file}"
            ),
            body => assert_eq!(exchange.text(), body, "{file}"),
        }
    }
}

/// The expression for the result, whether the host sends the file, and the body.
#[test]
fn what_iteration_gives_is_sent() {
    for (result, by_host, body) in [
        ("wrap(open(path, 'rb'))", true, "0123456789"),
        ("sub()(open(path, 'rb'))", true, "0123456789"),
        ("sub(more=1)(open(path, 'rb'))", true, "0123456789"),
        ("sub(__next__=once)(open(path, 'rb'))", false, "once"),
        (
            "sub(__iter__=lambda self: iter([b'it']))(open(path, 'rb'))",
            false,
            "it",
        ),
        (
            "sub(filelike=io.BytesIO(b'other'))(open(path, 'rb'))",
            false,
            "other",
        ),
        (
            "sub(__getattribute__=another)(open(path, 'rb'))",
            false,
            "another",
        ),
        // A proxy like those of tracing packages.
        ("Says(wrap(open(path, 'rb')))", false, "says"),
        (
            "(x.lower() for x in wrap(open(path, 'rb')))",
            false,
            "0123456789",
        ),
        ("wrap(wrap2(open(path, 'rb')))", false, "0123456789"),
    ] {
        let script = Script::app(&format!(
            "import io, os\n\
             path = os.path.join(os.path.dirname(__file__), 'data')\n\
             with open(path, 'wb') as f: f.write(b'0123456789')\n\
             wrap = environ['wsgi.file_wrapper']\n\
             def sub(**members): return type('Sub', (wrap,), members)\n\
             def once(self):\n\
             \x20   if vars(self).get('done'): raise StopIteration\n\
             \x20   self.done = True\n\
             \x20   return b'once'\n\
             def another(self, name):\n\
             \x20   if name == 'filelike':\n\
             \x20       if not hasattr(another, 'file'): another.file = io.BytesIO(b'another')\n\
             \x20       return another.file\n\
             \x20   return object.__getattribute__(self, name)\n\
             class Says:\n\
             \x20   def __init__(self, inner): self.inner = inner\n\
             \x20   __class__ = property(lambda self: wrap)\n\
             \x20   filelike = property(lambda self: self.inner.filelike)\n\
             \x20   def __iter__(self): return iter([b'says'])\n\
             class wrap2:\n\
             \x20   def __init__(self, f): self.f = f\n\
             \x20   def read(self, size): return self.f.read(size)\n\
             start_response('200 OK', [])\n\
             return {result}"
        ));
        let exchange = script.run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{result}: {exchange:?}"
        );
        assert_eq!(exchange.file.is_some(), by_host, "{result}");
        assert_eq!(exchange.text(), body, "{result}");
    }
}

/// A file that cannot be read raises as `read()` does, and no byte of the descriptor is sent.
#[test]
fn what_cannot_be_read_fails() {
    for (file, error) in [
        ("open(path, 'wb')", "UnsupportedOperation: read"),
        (
            "open(path, 'wb', buffering=0)",
            "UnsupportedOperation: File not open for reading",
        ),
        (
            "io.FileIO(os.open(path, os.O_RDWR), 'w')",
            "UnsupportedOperation",
        ),
        (
            "io.FileIO(os.open(path, os.O_WRONLY), 'r')",
            "OSError: [Errno 9] Bad file descriptor",
        ),
        (
            "io.FileIO(os.open(path, os.O_PATH), 'r')",
            "OSError: [Errno 9] Bad file descriptor",
        ),
        (
            "open(path)",
            "TypeError: file like object yielded non-bytes value of type 'str'",
        ),
        (
            "closed(open(path, 'rb'))",
            "ValueError: read of closed file",
        ),
        (
            "closed(open(path, 'rb', buffering=0))",
            "ValueError: I/O operation on closed file",
        ),
        (
            "detached(open(path, 'rb'))",
            "ValueError: raw stream has been detached",
        ),
        (
            "lost(open(path, 'rb'))",
            "OSError: [Errno 9] Bad file descriptor",
        ),
        (
            "object()",
            "AttributeError: 'object' object has no attribute 'read'",
        ),
        ("7", "AttributeError: 'int' object has no attribute 'read'"),
    ] {
        let script = Script::app(&format!(
            "import io, os\n\
             path = os.path.join(os.path.dirname(__file__), 'data')\n\
             with open(path, 'wb') as f: f.write(b'secret')\n\
             def closed(f):\n\
             \x20   f.close()\n\
             \x20   return f\n\
             def detached(f):\n\
             \x20   f.detach()\n\
             \x20   return f\n\
             def lost(f):\n\
             \x20   other = os.open('/dev/null', os.O_WRONLY)\n\
             \x20   os.dup2(other, f.fileno())\n\
             \x20   os.close(other)\n\
             \x20   return f\n\
             start_response('200 OK', [])\n\
             return environ['wsgi.file_wrapper']({file})"
        ));
        let exchange = script.run();
        assert!(
            exchange.is(RunOutcome::Failed) && exchange.file.is_none(),
            "{file}: {exchange:?}"
        );
        assert!(
            exchange.bytes().is_empty() && exchange.status_line.is_empty(),
            "{file}"
        );
        assert!(exchange.logged(error), "{file}: {exchange:?}");
    }
}

/// A length that the application declares: more than the file has, and for a file that does not tell its size.
#[test]
fn declared_lengths() {
    for (file, declared, told, by_host) in [
        ("path", 9, 9, true),
        ("path", 10, 10, true),
        ("path", 11, 10, true),
        ("'/proc/self/comm'", 3, 3, false),
    ] {
        let exchange = Script::app(&format!(
            "import os\n\
             path = os.path.join(os.path.dirname(__file__), 'data')\n\
             with open(path, 'wb') as f: f.write(b'0123456789')\n\
             start_response('200 OK', [('Content-Length', '{declared}')])\n\
             return environ['wsgi.file_wrapper'](open({file}, 'rb'))"
        ))
        .run();
        assert!(
            exchange.is(RunOutcome::Responded) && !exchange.cut,
            "{file}: {exchange:?}"
        );
        assert_eq!(exchange.file.is_some(), by_host, "{file}");
        assert_eq!(exchange.content_length, Some(told), "{file}");
        assert_eq!(exchange.bytes().len() as u64, told, "{file}");
    }
}
