//! A request gives back everything that it takes.

use super::{Piece, Script};

/// Counts references and objects that no other interpreter shares, before and after many requests of all kinds.
#[test]
fn counts_stay_flat() {
    let script = Script::new(
        "import gc, mod_wsgi\n\
         class Marked: pass\n\
         marked = Marked()\n\
         failure = ValueError('kept')\n\
         chunk = b'chunk'\n\
         headers = [('X-Name', 'value')]\n\
         status = '200 OK'\n\
         \n\
         def application(environ, start_response):\n\
         \x20   kind = environ['kind']\n\
         \x20   if kind == 'raise': raise ValueError(marked)\n\
         \x20   if kind == 'bad': start_response(status, [('A\\n', 'b')])\n\
         \x20   write = start_response(status, headers)\n\
         \x20   if kind == 'list': return [chunk, chunk]\n\
         \x20   if kind == 'iterator': return iter([chunk, chunk])\n\
         \x20   if kind == 'text': return [chunk, 'text']\n\
         \x20   if kind == 'body': return Body([chunk])\n\
         \x20   if kind == 'write': write(chunk)\n\
         \x20   if kind == 'file': return environ['wsgi.file_wrapper'](open(__file__, 'rb'))\n\
         \x20   if kind == 'log': print(marked, file=environ['wsgi.errors'])\n\
         \x20   if kind == 'input':\n\
         \x20       environ['wsgi.input'].readline()\n\
         \x20       return environ['wsgi.input'].readlines()\n\
         \x20   if kind == 'twice':\n\
         \x20       try: start_response(status, headers)(chunk); 1/0\n\
         \x20       except ZeroDivisionError: attempt(start_response, status, headers, sys.exc_info())\n\
         \x20   return ()\n\
         \n\
         def counts(environ, start_response):\n\
         \x20   gc.collect()\n\
         \x20   kinds = [mod_wsgi.Input, mod_wsgi.Adapter, mod_wsgi.FileWrapper, Marked]\n\
         \x20   things = [marked, chunk, headers, status, application, mod_wsgi.Log, *kinds,\n\
         \x20       sys.modules[__name__]]\n\
         \x20   references = [sys.getrefcount(thing) for thing in things]\n\
         \x20   return respond(start_response, f'{len(gc.get_objects())} {references}')\n",
    );
    let group = "leaks";
    let kinds = [
        "list", "iterator", "text", "body", "write", "file", "log", "input", "twice", "raise",
        "bad", "plain",
    ];
    let run = |count: usize| {
        for turn in 0..count {
            let kind = kinds[turn % kinds.len()];
            let request = script
                .request()
                .group(group)
                .literal(b"kind", Some(kind.as_bytes()));
            request.body([Piece::text("one\ntwo\nthree")]).run();
        }
        script.request().group(group).callable("counts").text()
    };
    let split = |counts: String| {
        let (objects, references) = counts.split_once(' ').unwrap();
        (objects.parse::<i64>().unwrap(), references.to_owned())
    };
    run(60);
    let before = split(run(60));
    let after = split(run(1980));
    assert_eq!(before.1, after.1);
    assert!(
        (after.0 - before.0).abs() <= 5,
        "{} objects, then {}",
        before.0,
        after.0
    );
}

/// A replaced module is freed, with everything in it.
#[test]
fn replaced_modules_go() {
    let source = "import weakref\n\
         class Thing: pass\n\
         thing = Thing()\n\
         sys.things = [ref for ref in getattr(sys, 'things', []) if ref() is not None] + [weakref.ref(thing)]\n\
         def application(environ, start_response):\n\
         \x20   import gc\n\
         \x20   gc.collect()\n\
         \x20   return respond(start_response, len([ref for ref in sys.things if ref() is not None]))\n";
    let script = Script::new(source);
    for turn in 0..20 {
        let exchange = script.request().group("modules-go").run();
        assert_eq!(exchange.text(), "1");
        assert_eq!(exchange.logged("Reloading"), turn > 0);
        script.write(source);
    }
}
