//! `mod_wsgi.subscribe_events`. Each test has its own group: subscribers see all requests of their interpreter.

use wsgi_abi::RunOutcome;

use super::{ERROR, Script};

const RECORD: &str = "\
import mod_wsgi
seen = []
def subscriber(name, **payload):
    seen.append((name, payload))
mod_wsgi.subscribe_events(subscriber)
";

#[test]
fn events_of_a_request_in_order() {
    let script = Script::new(&format!(
        "{RECORD}\n\
         def application(environ, start_response):\n\
         \x20   seen[:-1] = []\n\
         \x20   return respond(start_response, 'x')\n\
         def result(environ, start_response):\n\
         \x20   names = [name for name, _ in seen][:-1]\n\
         \x20   payloads = dict(seen[:-1])\n\
         \x20   started, headers, finished = (sorted(payloads[name]) for name in names)\n\
         \x20   assert payloads['request_started']['application_object'] is application\n\
         \x20   assert payloads['request_started']['request_environ']['key'] == 'value'\n\
         \x20   assert payloads['response_started']['response_status'] == '200 OK'\n\
         \x20   assert payloads['response_started']['exception_info'] is None\n\
         \x20   assert payloads['request_finished']['status'] == 200\n\
         \x20   return respond(start_response, (names, started, headers, finished))\n"
    ));
    let request = || script.request().group("events-order");
    request().run();
    request()
        .literal(b"key", Some(b"value"))
        .literal(b"mod_wsgi.request_id", Some(b"id"))
        .run();
    assert_eq!(
        request().callable("result").text(),
        "(['request_started', 'response_started', 'request_finished'], \
         ['application_object', 'application_start', 'callable_object', 'daemon_start', 'queue_start', \
         'request_environ', 'request_id', 'request_start', 'thread_id'], \
         ['exception_info', 'response_headers', 'response_status'], \
         ['application_finish', 'daemon_start', 'queue_start', 'request_id', 'request_start', 'status', 'thread_id'])"
    );
}

#[test]
fn an_exception_is_an_event() {
    let script = Script::new(&format!(
        "{RECORD}\n\
         def application(environ, start_response): raise KeyError('x')\n\
         def result(environ, start_response):\n\
         \x20   kind, value, trace = dict(seen)['request_exception']['exception_info']\n\
         \x20   status = [payload for name, payload in seen if name == 'request_finished'][0]['status']\n\
         \x20   return respond(start_response, (kind is KeyError, repr(value), trace is not None, status))\n"
    ));
    let request = || script.request().group("events-exception");
    assert!(request().run().is(RunOutcome::Failed));
    assert_eq!(
        request().callable("result").text(),
        "(True, \"KeyError('x')\", True, 500)"
    );
}

#[test]
fn a_subscriber_may_replace_the_application() {
    let script = Script::new(
        "import mod_wsgi\n\
         def other(environ, start_response): return respond(start_response, 'other')\n\
         @mod_wsgi.subscribe_events\n\
         def subscriber(name, **payload):\n\
         \x20   if name == 'request_started': return {'application_object': other}\n\
         def application(environ, start_response): return respond(start_response, 'first')\n",
    );
    assert_eq!(script.request().group("events-replace").text(), "other");
}

#[test]
fn what_subscribers_raise_is_logged_and_changes_nothing() {
    let script = Script::new(
        "import mod_wsgi\n\
         @mod_wsgi.subscribe_events\n\
         def first(name, **payload): raise ValueError(name)\n\
         @mod_wsgi.subscribe_events\n\
         def second(name, **payload): sys.exit()\n\
         @mod_wsgi.subscribe_events\n\
         def third(name, **payload): print('third', name)\n\
         def application(environ, start_response): return respond(start_response, 'x')\n",
    );
    let exchange = script.request().group("events-raise").run();
    assert!(exchange.is(RunOutcome::Responded) && exchange.text() == "x");
    let errors = exchange.lines(ERROR);
    for name in ["request_started", "response_started", "request_finished"] {
        let position = |line: &str| errors.iter().position(|other| other.contains(line));
        assert!(
            position(&format!(
                "exception raised by an event subscriber for '{name}'"
            ))
            .is_some(),
            "{errors:?}"
        );
        assert!(
            position(&format!(
                "SystemExit exception raised by an event subscriber for '{name}'"
            ))
            .is_some()
        );
        assert!(errors.contains(&format!("ValueError: {name}").as_str()));
        assert!(errors.contains(&format!("third {name}").as_str()));
    }
}

/// `sys.modules` belongs to the application: the engine must not look up its own module there while a request runs.
#[test]
fn the_module_may_be_replaced_by_another() {
    for (group, replacement) in [
        (
            "events-module",
            "sys.modules['mod_wsgi'] = type(sys)('mod_wsgi')",
        ),
        ("events-object", "sys.modules['mod_wsgi'] = object()"),
        ("events-none", "sys.modules['mod_wsgi'] = None"),
        (
            "events-again",
            "import importlib, mod_wsgi; del sys.modules['mod_wsgi']; importlib.import_module('mod_wsgi')",
        ),
    ] {
        let script = Script::app(&format!(
            "{replacement}\nreturn respond(start_response, 'x')"
        ));
        assert_eq!(script.request().group(group).text(), "x", "{replacement}");
        assert_eq!(script.request().group(group).text(), "x", "{replacement}");
        let fails = Script::app("1/0");
        assert!(
            fails
                .request()
                .group(group)
                .run()
                .logged("ZeroDivisionError: division by zero")
        );
    }
}

#[test]
fn signals_reach_the_subscribers_of_a_process_group_only() {
    // The tests run as a child of httpd does, which gets no signals for its applications.
    let script = Script::new(
        "import mod_wsgi\n\
         told = []\n\
         def tell(name, **payload): told.append((name, payload))\n\
         assert mod_wsgi.subscribe_signals(tell) is tell\n\
         mod_wsgi.subscribe_events(tell)\n\
         def application(environ, start_response):\n\
         \x20   answer = [payload for name, payload in told if name == 'process_signal']\n\
         \x20   return respond(start_response, (answer, mod_wsgi.signal_callbacks))\n",
    );
    let request = || script.request().group("events-signals");
    assert_eq!(request().text(), "([], [])");
    assert!(super::host::server_logged(
        6,
        "Callback registration for process signals ignored."
    ));
    crate::signal(10);
    let told = "([{'signame': 'SIGUSR1', 'signum': 10}], [])";
    assert_eq!(request().text(), told);
}
