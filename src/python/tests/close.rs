//! `close()` of the application's result: called once on every path, and without effect on the response.

use wsgi_abi::RunOutcome;

use super::{ERROR, Script};

const COUNT: &str =
    "\ndef count(environ, start_response): return respond(start_response, Body.closed)\n";

fn script(lines: &str) -> Script {
    let lines = lines.replace('\n', "\n    ");
    Script::new(&format!(
        "def application(environ, start_response):\n    {lines}\n{COUNT}"
    ))
}

#[test]
fn is_called_once_on_every_path() {
    for (lines, outcome) in [
        (
            "start_response('200 OK', [])\nreturn Body([b'x'])",
            RunOutcome::Responded,
        ),
        (
            "start_response('200 OK', [])\nreturn Body([])",
            RunOutcome::Responded,
        ),
        (
            "start_response('200 OK', [])\nreturn Body(['text'])",
            RunOutcome::Failed,
        ),
        (
            "start_response('200 OK', [])\nreturn Body([b'x', 'text'])",
            RunOutcome::Responded,
        ),
        (
            "start_response('200 OK', [('Content-Length', '1')])\nreturn Body([b'x', b'y'])",
            RunOutcome::Responded,
        ),
        (
            "start_response('200 OK', [('Content-Length', '9')])\nreturn Body([b'x', b'y'])",
            RunOutcome::Responded,
        ),
        (
            "start_response('200 OK', [])\nreturn Body(1 // n for n in (1, 0))",
            RunOutcome::Failed,
        ),
        (
            "start_response('200 OK', [])\nreturn Body(sys.exit() for n in (1, 0))",
            RunOutcome::Failed,
        ),
        (
            "start_response('200 OK', [])(b'x')\nreturn Body([b'y'])",
            RunOutcome::Responded,
        ),
        ("return Body([b'x'])", RunOutcome::Failed),
        (
            "class Bad(Body):\n    def __iter__(self): 1/0\nstart_response('200 OK', [])\nreturn Bad([])",
            RunOutcome::Failed,
        ),
        (
            "class Listed(list):\n    close = Body.close\nstart_response('200 OK', [])\nreturn Listed([b'x'])",
            RunOutcome::Responded,
        ),
    ] {
        let script = script(lines);
        let exchange = script.run();
        assert!(exchange.is(outcome), "{lines}: {exchange:?}");
        assert_eq!(script.request().callable("count").text(), "1", "{lines}");
    }
}

#[test]
fn is_called_when_the_client_has_left() {
    let script = script("start_response('200 OK', [])\nreturn Body([b'x', b'y'])");
    assert!(
        script
            .request()
            .aborted_after(0)
            .run()
            .is(RunOutcome::Responded)
    );
    assert_eq!(script.request().callable("count").text(), "1");
}

#[test]
fn what_it_raises_is_logged_and_changes_nothing() {
    for (error, line) in [
        ("ValueError('in close')", Some("ValueError: in close")),
        ("SystemExit(3)", None),
        ("__import__('mod_wsgi').RequestTimeout()", None),
    ] {
        let exchange = Script::app(&format!(
            "class Bad(Body):\n    def close(self): raise {error}\nstart_response('200 OK', [])\nreturn Bad([b'x'])"
        ))
        .run();
        assert!(exchange.is(RunOutcome::Responded) && !exchange.cut);
        assert_eq!(exchange.text(), "x");
        match line {
            Some(line) => assert_eq!(exchange.lines(ERROR).last(), Some(&line)),
            None => assert!(!exchange.logged("Traceback"), "{exchange:?}"),
        }
    }
}

#[test]
fn an_attribute_that_cannot_be_looked_up() {
    let exchange = Script::app(
        "class Bad(Body):\n\
         \x20   @property\n\
         \x20   def close(self): raise ValueError('no close')\n\
         start_response('200 OK', [])\n\
         return Bad([b'x'])",
    )
    .run();
    assert!(exchange.is(RunOutcome::Responded) && exchange.text() == "x");
    let errors = exchange.lines(ERROR);
    assert!(
        errors[0].contains("looking up the close attribute"),
        "{errors:?}"
    );
    assert_eq!(errors.last(), Some(&"ValueError: no close"));
}

#[test]
fn one_that_is_not_callable() {
    let exchange = Script::app(
        "class Bad(Body): close = None\nstart_response('200 OK', [])\nreturn Bad([b'x'])",
    )
    .run();
    assert!(exchange.is(RunOutcome::Responded));
    assert!(exchange.logged("TypeError: 'NoneType' object is not callable"));
}
