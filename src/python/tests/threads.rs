//! Many threads, several groups, and threads of the application that outlive their request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::ffi;
use wsgi_abi::RunOutcome;

use super::{Piece, Script};

#[test]
fn many_threads_and_two_groups_for_a_second() {
    let script = Script::new(
        "import mod_wsgi, time\n\
         def application(environ, start_response):\n\
         \x20   number = int(environ['number'])\n\
         \x20   data = environ['wsgi.input'].read()\n\
         \x20   answer = f\"{mod_wsgi.application_group} {number} {len(data)}\".encode()\n\
         \x20   if number % 5 == 0: raise ValueError(number)\n\
         \x20   if number % 3 == 0: print(number)\n\
         \x20   if number % 2 == 0:\n\
         \x20       start_response('200 OK', [('Content-Length', str(len(answer)))])\n\
         \x20       return [answer]\n\
         \x20   start_response('200 OK', [])\n\
         \x20   return (answer[at:at + 7] for at in range(0, len(answer), 7))\n\
         def reload_required(path): return path == 'reload'\n",
    );
    let done = AtomicUsize::new(0);
    let until = Instant::now() + Duration::from_secs(1);
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (script, done) = (&script, &done);
            scope.spawn(move || {
                for turn in 0.. {
                    if Instant::now() > until && done.load(Ordering::Relaxed) > 50 {
                        break;
                    }
                    let number = thread * 1_000_000 + turn;
                    let group = ["hammer-a", "hammer-b"][(turn + thread) / 10 % 2];
                    let size = number * 37 % 30_000;
                    let body = [
                        Piece::Data(vec![b'x'; size / 2]),
                        Piece::Data(vec![b'y'; size - size / 2]),
                    ];
                    let mut request = script.request().group(group).body(body);
                    if turn % 100 == 99 {
                        request.resource = String::from("reload");
                    }
                    let exchange = request
                        .literal(b"number", Some(number.to_string().as_bytes()))
                        .run();
                    if number % 5 == 0 {
                        assert!(exchange.is(RunOutcome::Failed));
                        assert!(exchange.logged(&format!("ValueError: {number}")));
                    } else {
                        assert!(exchange.is(RunOutcome::Responded));
                        assert_eq!(exchange.text(), format!("{group} {number} {size}"));
                        assert_eq!(exchange.logged(&number.to_string()), number % 3 == 0);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

/// Threads of the application continue to use all objects of a request while it ends.
#[test]
fn objects_in_use_when_their_request_ends() {
    let script = Script::new(
        "import threading\n\
         threads = []\n\
         unexpected = []\n\
         def misuse(environ, start_response, write, begun):\n\
         \x20   calls = [lambda: environ['wsgi.input'].read(1), lambda: environ['wsgi.input'].readline(),\n\
         \x20       lambda: write(b'.'), lambda: environ['wsgi.errors'].write('line\\n'),\n\
         \x20       lambda: start_response('404 Not', [])]\n\
         \x20   while calls:\n\
         \x20       environ['wsgi.errors'].flush()\n\
         \x20       for call in list(calls):\n\
         \x20           try: call()\n\
         \x20           except RuntimeError as error:\n\
         \x20               if 'more than once' not in str(error): calls.remove(call)\n\
         \x20           except Exception as error:\n\
         \x20               unexpected.append(repr(error))\n\
         \x20               return\n\
         \x20           begun.set()\n\
         def application(environ, start_response):\n\
         \x20   write = start_response('200 OK', [])\n\
         \x20   for _ in range(3):\n\
         \x20       begun = threading.Event()\n\
         \x20       threads.append(threading.Thread(target=misuse, args=(environ, start_response, write, begun)))\n\
         \x20       threads[-1].start()\n\
         \x20       begun.wait()\n\
         \x20   return [b'done'] if environ['kind'] == 'list' else iter([b'do', b'ne'])\n\
         def result(environ, start_response):\n\
         \x20   for thread in threads: thread.join(20)\n\
         \x20   return respond(start_response, (unexpected, [thread for thread in threads if thread.is_alive()]))\n",
    );
    for group in ["", "misuse"] {
        for turn in 0..20 {
            let pieces: Vec<Piece> = (0..50).map(|_| Piece::text("a line\n")).collect();
            let kind: &[u8] = if turn % 2 == 0 { b"list" } else { b"iterator" };
            let exchange = script
                .request()
                .group(group)
                .body(pieces)
                .literal(b"kind", Some(kind))
                .run();
            assert!(exchange.is(RunOutcome::Responded), "{exchange:?}");
            assert_eq!(exchange.text().replace('.', ""), "done");
        }
        assert_eq!(
            script.request().group(group).callable("result").text(),
            "([], [])"
        );
    }
}

/// httpd threads that end leave no thread states behind.
#[test]
fn threads_that_end() {
    let script = Script::app(
        "import threading\nthreading.local().x = 1\nreturn respond(start_response, 'x')",
    );
    let mut states = Vec::new();
    for turn in 0..50 {
        let group = ["", "short-lived"][turn % 2];
        std::thread::scope(|scope| {
            let script = &script;
            let thread = scope.spawn(move || assert_eq!(script.request().group(group).text(), "x"));
            thread.join().unwrap();
        });
        // Other tests have threads in the main interpreter.
        if group == "short-lived" {
            states.push(states_of(group));
        }
    }
    assert_eq!(states.first(), states.last());
}

/// Returns the number of thread states of an interpreter, including that of the calling thread.
fn states_of(group: &str) -> usize {
    let all = crate::cpython::interpreter::all();
    let is_it =
        |one: &&&crate::cpython::interpreter::Interpreter| one.identity().group == group.as_bytes();
    let interpreter = all.iter().find(is_it).unwrap();
    crate::cpython::thread_state::attach(interpreter, |_| {
        let mut count = 0;
        // SAFETY: attached, and no thread of this interpreter begins or ends during the loop.
        unsafe {
            let mut state = ffi::PyInterpreterState_ThreadHead(interpreter.as_ptr());
            while !state.is_null() {
                count += 1;
                state = ffi::PyThreadState_Next(state);
            }
        }
        count
    })
}
