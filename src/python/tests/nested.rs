//! Requests that the host runs on the same thread within a call of another one, as httpd does for error pages.

use std::sync::{Arc, Mutex};

use super::{ERROR, Piece, Recorded, Script};

/// The outer request keeps something for its thread, writes to its log, and reads its body in between.
const OUTER: &str = "
import mod_wsgi, threading
local = threading.local()

def application(environ, start_response):
    local.kept = threading.get_ident()
    print('outer before', file=sys.stderr)
    sys.stderr.write('outer in ')
    data = environ['wsgi.input'].read()
    sys.stderr.write('one line\\n')
    environ['wsgi.errors'].write('outer after\\n')
    kept = getattr(local, 'kept', None) == threading.get_ident()
    return respond(start_response, f'{data.decode()} {kept}')

def inner(environ, start_response):
    print('inner', file=sys.stderr)
    return respond(start_response, 'inner ' + mod_wsgi.application_group)

def failing(environ, start_response):
    raise ValueError('inner failure')
";

/// The records of the inner requests, in the order of their ends.
type Ends = Arc<Mutex<Vec<Recorded>>>;

/// Makes a body whose reading runs a request, in this group with this callable.
fn body_around(
    script: &Arc<Script>,
    ends: &Ends,
    group: &'static str,
    callable: &'static str,
) -> [Piece; 3] {
    let (script, ends) = (Arc::clone(script), Arc::clone(ends));
    let run = move || {
        let exchange = script.request().group(group).callable(callable).run();
        ends.lock().unwrap().push(exchange);
    };
    [
        Piece::text("one "),
        Piece::Wait(Box::new(run)),
        Piece::text("two"),
    ]
}

fn check_outer(exchange: &Recorded) {
    assert_eq!(exchange.text(), "one two True", "{exchange:?}");
    assert_eq!(
        exchange.lines(ERROR),
        ["outer before", "outer in one line", "outer after"]
    );
}

#[test]
fn a_request_within_a_read() {
    let script = Arc::new(Script::new(OUTER));
    // Twice each, because the first use of a group makes its interpreter and the thread's state in it.
    for (outer, inner) in [
        ("", ""),
        ("", "nested-a"),
        ("nested-a", ""),
        ("nested-a", "nested-a"),
        ("nested-a", "nested-b"),
        ("nested-b", "nested-c"),
        ("nested-a", "nested-c"),
    ]
    .into_iter()
    .flat_map(|groups| [groups; 2])
    {
        let ends = Ends::default();
        let body = body_around(&script, &ends, inner, "inner");
        check_outer(&script.request().group(outer).body(body).run());
        let ends = ends.lock().unwrap();
        let [end] = &ends[..] else {
            panic!("{ends:?}");
        };
        assert_eq!(end.text(), format!("inner {inner}"), "{outer} {inner}");
        assert_eq!(end.lines(ERROR), ["inner"], "{outer} {inner}");
    }
}

#[test]
fn a_failure_within_a_read() {
    let script = Arc::new(Script::new(OUTER));
    for group in ["nested-a", "nested-d"] {
        let ends = Ends::default();
        let body = body_around(&script, &ends, group, "failing");
        check_outer(&script.request().group("nested-a").body(body).run());
        assert!(ends.lock().unwrap()[0].logged("ValueError: inner failure"));
    }
}

#[test]
fn three_deep_and_on_threads_that_end() {
    let script = Arc::new(Script::new(OUTER));
    let groups = ["deep-a", "deep-b", "deep-c", "deep-a", ""];
    std::thread::scope(|scope| {
        for turn in 0..groups.len() {
            let script = &script;
            scope.spawn(move || {
                let group = move |depth: usize| groups[(turn + depth) % groups.len()];
                let ends = Ends::default();
                let innermost = body_around(script, &ends, group(2), "inner");
                let (middle, middle_ends) = (Arc::clone(script), Arc::clone(&ends));
                let run = move || {
                    let exchange = middle.request().group(group(1)).body(innermost).run();
                    middle_ends.lock().unwrap().push(exchange);
                };
                let body = [
                    Piece::text("one "),
                    Piece::Wait(Box::new(run)),
                    Piece::text("two"),
                ];
                check_outer(&script.request().group(group(0)).body(body).run());
                let ends = ends.lock().unwrap();
                assert_eq!(ends[0].text(), format!("inner {}", group(2)));
                check_outer(&ends[1]);
            });
        }
    });
}
