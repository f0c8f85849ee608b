//! The end of Python's work in a process, in a process of its own: afterwards no request is let in.

use wsgi_abi::RunOutcome;

use super::Script;
use super::host::server_logged;

#[test]
fn in_a_process_of_its_own() {
    let this = std::env::current_exe().unwrap();
    let child = std::process::Command::new(this)
        .args([
            "--exact",
            "tests::stop::in_the_child",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
}

#[test]
#[ignore = "ends Python for the whole process; run by in_a_process_of_its_own"]
fn in_the_child() {
    let script = Script::new(
        "import atexit, mod_wsgi\n\
         group = mod_wsgi.application_group\n\
         @mod_wsgi.subscribe_shutdown\n\
         def stopping(name, **payload): print(group, name, payload)\n\
         @mod_wsgi.subscribe_shutdown\n\
         def failing(name, **payload): raise ValueError(f\"in {group!r}\")\n\
         atexit.register(print, group, 'atexit')\n\
         atexit.register(sys.exit)\n\
         def application(environ, start_response): return respond(start_response, 'x')\n",
    );
    for group in ["", "stopped"] {
        assert_eq!(script.request().group(group).text(), "x");
    }
    crate::stop();
    for group in ["", "stopped"] {
        assert!(server_logged(
            3,
            &format!("{group} process_stopping {{'shutdown_reason': ''}}")
        ));
        assert!(server_logged(3, &format!("{group} atexit")));
        assert!(server_logged(3, &format!("ValueError: in '{group}'")));
    }
    let late = script.run();
    assert!(late.is(RunOutcome::Draining));
    assert!(late.logged("Python is not running in this child"));
    crate::stop();
}
