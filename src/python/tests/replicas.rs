//! Replicas of an application, each with its own GIL: which of them runs a request, and what follows if one cannot be
//! loaded.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use wsgi_abi::{GilDecision, RunOutcome};

use super::host::{self, CHOICES};
use super::{ERROR, Script, start};
use crate::sync::lock;

const WARNING: i32 = 4;

/// Returns the decisions for a group: the choice and the module, in order.
fn choices(group: &str) -> Vec<(GilDecision, String)> {
    let all = lock(&CHOICES);
    let ours = all.iter().filter(|(name, ..)| name == group);
    ours.map(|(_, choice, module)| (*choice, module.clone()))
        .collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns how many requests are in the interpreters of a group.
fn inside(group: &str) -> u32 {
    let all = crate::cpython::interpreter::all();
    let ours = all
        .iter()
        .filter(|one| one.identity().group == group.as_bytes());
    ours.map(|one| one.inside()).sum()
}

fn load(script: &Script, group: &str) -> bool {
    start();
    crate::load(
        group.as_bytes(),
        script.path.as_os_str().as_encoded_bytes(),
        0,
    )
}

#[test]
fn requests_take_turns_and_each_replica_has_its_own_world() {
    let script = Script::new(
        "count = 0\n\
         def application(environ, start_response):\n\
         \x20   global count\n\
         \x20   count += 1\n\
         \x20   return respond(start_response, f\"{environ['mod_wsgi.replica']} {count} {environ['wsgi.multiprocess']}\")\n",
    );
    assert!(load(&script, "own-3-turns"));
    let run = || script.request().group("own-3-turns").text();
    let mut answers: Vec<String> = (0..6).map(|_| run()).collect();
    let first: BTreeSet<String> = answers.iter().take(3).cloned().collect();
    assert_eq!(first.len(), 3, "each in its turn: {answers:?}");
    answers.sort();
    assert_eq!(
        answers,
        [
            "0 1 True", "0 2 True", "1 1 True", "1 2 True", "2 1 True", "2 2 True"
        ]
    );
}

#[test]
fn a_busy_replica_is_left_alone() {
    let script = Script::app(
        "if environ.get('wait'):\n\
         \x20   import os, time\n\
         \x20   while not os.path.exists(environ['wait']): time.sleep(0.01)\n\
         return respond(start_response, environ['mod_wsgi.replica'])",
    );
    assert!(load(&script, "own-2-busy"));
    let flag = script.path.with_extension("flag");
    std::thread::scope(|scope| {
        let waiting = flag.as_os_str().as_encoded_bytes();
        let busy = scope.spawn(|| {
            let request = script.request().group("own-2-busy");
            request.literal(b"wait", Some(waiting)).text()
        });
        wait_until("it is inside", || inside("own-2-busy") == 1);
        let others: BTreeSet<String> = (0..10)
            .map(|_| script.request().group("own-2-busy").text())
            .collect();
        std::fs::write(&flag, "").unwrap();
        let busy = busy.join().unwrap();
        assert_eq!(others.len(), 1);
        assert!(!others.contains(&busy), "{busy} {others:?}");
    });
}

/// One replica holds its GIL, in a call that does not release it, until the other has answered.
#[test]
fn replicas_run_at_the_same_time() {
    let script = Script::app(
        "import ctypes\n\
         if environ.get('test.read_from'):\n\
         \x20   ctypes.PyDLL(None).read(int(environ['test.read_from']), ctypes.create_string_buffer(1), 1)\n\
         return respond(start_response, environ['mod_wsgi.replica'])",
    );
    let group = "own-2-parallel";
    assert!(load(&script, group));
    let both: BTreeSet<String> = (0..2)
        .map(|_| script.request().group(group).text())
        .collect();
    assert_eq!(both.len(), 2, "each has made what it imports");
    let (gate, mut key) = std::io::pipe().unwrap();
    let descriptor = gate.as_raw_fd().to_string();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| {
            let request = script.request().group(group);
            let read_from = Some(descriptor.as_bytes());
            request.literal(b"test.read_from", read_from).text()
        });
        wait_until("it is inside", || inside(group) == 1);
        let (answer, answered) = mpsc::channel();
        scope.spawn(|| {
            let answer = answer;
            answer.send(script.request().group(group).text())
        });
        let other = answered.recv_timeout(Duration::from_secs(20));
        // In any case, release the waiting thread.
        key.write_all(b"x").unwrap();
        let held = held.join().unwrap();
        assert_ne!(other.expect("an answer while a GIL is held"), held);
    });
}

#[test]
fn one_that_fails_leaves_the_others_serving_and_is_tried_again() {
    let script = Script::new(
        "import os\n\
         folder = os.path.dirname(__file__)\n\
         if not os.path.exists(folder + '/mended'): os.close(os.open(folder + '/one', os.O_CREAT | os.O_EXCL))\n\
         def application(environ, start_response):\n\
         \x20   return respond(start_response, environ['mod_wsgi.replica'])\n",
    );
    let run = || script.request().group("own-2-fails").text();
    let first = run();
    let failed = if first == "0" { 2 } else { 1 };
    let path = script.path.display();
    let line = format!(
        "WSGI1027: WSGI script '{path}' could not be loaded into interpreter {failed} of 2 of application group \
         'own-2-fails'; the other interpreters serve it, and it is tried again in 1 s"
    );
    wait_until("the other one has failed", || {
        assert_eq!(run(), first);
        host::server_logged(ERROR, &line)
    });
    std::fs::write(script.path.with_file_name("mended"), "").unwrap();
    let mut seen = BTreeSet::new();
    wait_until("both serve", || {
        seen.insert(run());
        seen.len() == 2
    });
}

#[test]
fn a_request_loads_where_nothing_is_loaded_ahead() {
    let script = Script::app("return respond(start_response, environ['mod_wsgi.replica'])");
    let run = || script.request().group("own-2-lazy").text();
    let mut seen = BTreeSet::from([run()]);
    wait_until("both serve", || {
        seen.insert(run());
        seen.len() == 2
    });
}

#[test]
fn what_is_left_open_is_tried_and_told() {
    let script = Script::app("return respond(start_response, environ['mod_wsgi.replica'])");
    assert!(load(&script, "auto-2-fine"));
    assert_eq!(choices("auto-2-fine"), [(GilDecision::Own, String::new())]);
    script.request().group("auto-2-fine").text();
}

/// `readline` and `faulthandler` cannot be loaded into an interpreter with its own GIL.
#[test]
fn a_group_goes_to_the_main_interpreter_where_a_module_refuses() {
    let refusing = "import faulthandler\n\
         def application(environ, start_response):\n\
         \x20   return respond(start_response, environ.get('mod_wsgi.replica'))\n";
    for (group, ahead) in [("auto-2-refused", true), ("auto-2-refused-late", false)] {
        let script = Script::new(refusing);
        if ahead {
            assert!(load(&script, group));
        }
        assert_eq!(script.request().group(group).text(), "None");
        assert_eq!(
            choices(group),
            [(GilDecision::Shared, String::from("faulthandler"))]
        );
        assert!(host::server_logged(
            WARNING,
            &format!(
                "WSGI1026: application group '{group}' runs in the main interpreter, under the GIL of the \
                 process: 'faulthandler' cannot be loaded into an interpreter with its own GIL"
            )
        ));
    }
}

/// A group whose configuration demands replicas gets them or an error.
#[test]
fn a_group_that_wants_them_stays_where_it_is() {
    let script = Script::new("import faulthandler\ndef application(environ, start_response): pass");
    let exchange = script.request().group("own-2-refused").run();
    assert!(exchange.is(RunOutcome::Failed));
    let lines = exchange.lines(ERROR).join("\n");
    assert!(lines.contains("faulthandler"), "{lines}");
}
