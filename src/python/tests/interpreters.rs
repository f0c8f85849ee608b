//! Application groups: one interpreter each, separate from each other, prepared by the options of the group.

use super::{ERROR, Script};

fn ask_group(group: &str, expression: &str) -> String {
    let script = Script::app(&format!(
        "return respond(start_response, attempt(lambda: {expression}))"
    ));
    script.request().group(group).text()
}

#[test]
fn are_apart() {
    let script = Script::app(
        "import os, mod_wsgi\n\
         sys.mark = getattr(sys, 'mark', '') + environ['mark']\n\
         return respond(start_response, sys.mark + ' ' + repr(mod_wsgi.application_group))",
    );
    let run = |group: &str, mark: &[u8]| {
        script
            .request()
            .group(group)
            .literal(b"mark", Some(mark))
            .text()
    };
    assert_eq!(run("apart-a", b"a"), "a 'apart-a'");
    assert_eq!(run("apart-b", b"b"), "b 'apart-b'");
    assert_eq!(run("apart-a", b"c"), "ac 'apart-a'");
    assert_eq!(run("apart-\u{e9}", b"d"), "d 'apart-\u{c3}\u{a9}'");
}

#[test]
fn failures_name_the_interpreter() {
    let exchange = Script::app("1/0").request().group("named").run();
    let line = exchange.lines(ERROR)[0].to_owned();
    assert!(
        line.ends_with("in sub-interpreter 'named' in embedded mode"),
        "{line}"
    );
}

#[test]
fn options_of_the_group() {
    let restricted = "OSError: sys.stdin access restricted by mod_wsgi";
    for (group, expression, expected) in [
        ("restricted", "sys.stdin.read()", restricted),
        ("restricted", "sys.stdin.anything", restricted),
        (
            "restricted",
            "print('x')",
            "OSError: sys.stdout access restricted by mod_wsgi",
        ),
        (
            "restricted",
            "type(sys.stdin)",
            "<class 'mod_wsgi.Restricted'>",
        ),
        (
            "restricted",
            "__import__('signal').signal(15, print)",
            "<built-in function print>",
        ),
        (
            "restricted",
            "__import__('signal').getsignal(15) is print",
            "False",
        ),
        ("unrestricted", "print('x')", "None"),
        (
            "with-path",
            "sys.path[:2]",
            "['/nonexistent/one', '/nonexistent/two']",
        ),
        ("", "sys.argv", "['mod_wsgi']"),
        ("", "__import__('apache').version", "(2, 4, 57)"),
        (
            "",
            "ascii(__import__('apache').description)",
            "'Test/1.0 (caf\\xe9)'",
        ),
        ("", "__import__('apache').mpm_name", "event"),
        ("", "__import__('apache').threads_per_process", "25"),
        ("", "__import__('mod_wsgi').version", "(6, 1, 1)"),
        ("", "__import__('mod_wsgi').maximum_processes", "3"),
        ("", "__import__('mod_wsgi').process_group == ''", "True"),
        (
            "",
            "issubclass(__import__('mod_wsgi').RequestTimeout, Exception)",
            "False",
        ),
    ] {
        assert_eq!(
            ask_group(group, expression),
            expected,
            "{group}: {expression}"
        );
    }
}

#[test]
fn a_signal_that_is_ignored_is_told_to_the_server() {
    ask_group(
        "restricted-signal",
        "__import__('signal').signal(10, print)",
    );
    assert!(super::host::server_logged(
        6,
        "Callback registration for signal 10 ignored."
    ));
}

/// One interpreter is made, whichever request comes first.
#[test]
fn many_threads_may_want_a_new_one() {
    let script = Script::app(
        "sys.made = getattr(sys, 'made', object())\nreturn respond(start_response, id(sys.made))",
    );
    let mut answers: Vec<String> = std::thread::scope(|scope| {
        let run = || script.request().group("wanted-by-many").text();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

/// If this Python has no interpreters with their own GIL, a group that asks for some is served under the one GIL.
#[cfg(not(all(Py_3_13, not(Py_GIL_DISABLED))))]
#[test]
fn gils_of_their_own_are_refused_and_the_group_is_served() {
    let script = Script::app(
        "import mod_wsgi\n\
         return respond(start_response, f\"{environ.get('mod_wsgi.replica')} {mod_wsgi.application_group}\")",
    );
    for (group, expected) in [
        ("own-2-early", "None own-2-early"),
        ("auto-2-early", "None "),
    ] {
        assert_eq!(script.request().group(group).text(), expected);
        let why = if cfg!(Py_GIL_DISABLED) {
            "this build of Python is free-threaded, and has one GIL for the process or none"
        } else if cfg!(Py_3_12) {
            "Python 3.12 ends the process when a second one imports datetime; Python 3.13 or later is needed"
        } else {
            "Python 3.13 or later is needed"
        };
        assert!(super::host::server_logged(
            4,
            &format!(
                "WSGI1023: application group '{group}' runs under the GIL of the process: {why}"
            )
        ));
    }
}
