//! The stacks of threads: of one, of all, and of all while a thread does not release the GIL.

use std::ffi::c_ulong;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Script, start};
use crate::cpython::{interpreter, thread_state};
use crate::watch::stacks;

/// Held by tests that hold a GIL, or ask all threads, because other tests would disturb them.
static ALONE: Mutex<()> = Mutex::new(());

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `check` while a request of `group` is in `lines`, which write their thread's identity to the descriptor
/// `environ['tell']`, and end when they can read from `environ['wait']`.
fn while_inside<R>(script: &Script, group: &str, check: impl FnOnce(c_ulong) -> R) -> R {
    start();
    let (mut told, tell) = std::io::pipe().unwrap();
    let (wait, mut release) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let request = script.request().group(group);
            let tell = tell.as_raw_fd().to_string();
            let wait = wait.as_raw_fd().to_string();
            let request = request.literal(b"tell", Some(tell.as_bytes()));
            request.literal(b"wait", Some(wait.as_bytes())).text()
        });
        let mut ident = [0; 8];
        std::io::Read::read_exact(&mut told, &mut ident).unwrap();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check(c_ulong::from_ne_bytes(ident))
        }));
        // In any case, release the waiting thread.
        release.write_all(b"x").unwrap();
        assert_eq!(inside.join().unwrap(), "done");
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes a script that waits three functions deep.
fn waiting(read: &str) -> Script {
    Script::new(&format!(
        "import ctypes, os, struct, threading\n\
         buffer = ctypes.create_string_buffer(1)\n\
         hold = ctypes.PyDLL(None).read\n\
         def innermost(environ):\n\
         \x20   os.write(int(environ['tell']), struct.pack('L', threading.get_ident()))\n\
         \x20   {read}\n\
         def in_between(environ):\n\
         \x20   innermost(environ)\n\
         def application(environ, start_response):\n\
         \x20   in_between(environ)\n\
         \x20   return respond(start_response, 'done')\n"
    ))
}

/// Returns the functions of a stack, the outermost first, and checks that each line is like Python's.
fn functions(stack: &str) -> Vec<&str> {
    let lines = stack.lines().map(|line| {
        let rest = line
            .strip_prefix("  File \"")
            .unwrap_or_else(|| panic!("{line:?}"));
        let (_, rest) = rest.split_once("\", line ").unwrap();
        let (number, function) = rest.split_once(", in ").unwrap();
        assert!(number.parse::<u32>().unwrap() > 0);
        function
    });
    lines.collect()
}

/// Returns the part of a dump that begins with these words and ends with an empty line.
fn part<'a>(dump: &'a str, thread: &str) -> Option<&'a str> {
    let at = dump.find(thread)?;
    let rest = &dump[at..];
    let stack = rest.split_once('\n')?.1;
    Some(stack.split("\n\n").next().unwrap_or(stack))
}

/// Without a GIL threads have to stand still, which a thread in C code that does not detach never does.
#[cfg(Py_GIL_DISABLED)]
#[test]
fn where_a_thread_does_not_stand_still_that_is_said_in_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let script = waiting(HOLD);
    while_inside(&script, "", |holds| {
        let dump = dump_when_held();
        if crate::application::free_threading::may_be_off() {
            let said = "There are no stacks: without a GIL they can only be taken while all threads stand still.";
            assert!(dump.contains(said), "{dump}");
        } else {
            let stack = part(&dump, &format!("Thread {holds:#x}")).expect(&dump);
            assert_eq!(functions(stack), ["application", "in_between", "innermost"]);
        }
    });
}

/// Returns a dump from a moment at which a thread, which is about to take its GIL, has it and does not release it.
fn dump_when_held() -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let dump = stacks::dump(Duration::from_millis(200));
        if dump.contains(" could not be acquired within 0.2 s. ") {
            return dump;
        }
        assert!(Instant::now() < until, "{dump}");
    }
}

const LET_GO: &str = "os.read(int(environ['wait']), 1)";
const HOLD: &str = "hold(int(environ['wait']), buffer, 1)";

#[test]
fn one_thread_has_its_innermost_call_last() {
    for group in ["", "stack-of-one"] {
        let script = waiting(LET_GO);
        while_inside(&script, group, |ident| {
            let all = interpreter::all();
            let own = all
                .iter()
                .find(|one| one.identity().group == group.as_bytes());
            let stack =
                |ident| thread_state::attach(own.unwrap(), |py| stacks::of_thread(py, ident));
            let found = stack(ident).unwrap_or_else(|| panic!("{group} {ident:#x}"));
            assert_eq!(
                functions(&found),
                ["application", "in_between", "innermost"],
                "{found}"
            );
            assert!(found.contains(&format!("File \"{}\", line ", script.path.display())));
            assert_eq!(stack(1), None);
        });
    }
}

#[test]
fn a_dump_has_the_threads_of_all_interpreters() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scripts = [waiting(LET_GO), waiting(LET_GO)];
    while_inside(&scripts[0], "", |first| {
        while_inside(&scripts[1], "stack-of-all", |second| {
            let dump = stacks::dump(PATIENCE);
            for (ident, heading, script) in [
                (first, "== main interpreter ==", &scripts[0]),
                (second, "== sub-interpreter 'stack-of-all' ==", &scripts[1]),
            ] {
                let (_, interpreter) = dump.split_once(heading).expect(&dump);
                let (interpreter, _) = interpreter.split_once("\n== ").unwrap_or((interpreter, ""));
                let stack = part(interpreter, &format!("({ident:#x})"))
                    .or_else(|| part(interpreter, &format!("Thread {ident:#x}")));
                let stack = stack.unwrap_or_else(|| panic!("{ident:#x} {interpreter}"));
                assert_eq!(functions(stack), ["application", "in_between", "innermost"]);
                assert!(stack.contains(&script.path.display().to_string()));
            }
            assert!(!dump.contains("could not be acquired"), "{dump}");
        });
    });
}

/// In C code that never releases the GIL.
#[cfg(not(Py_GIL_DISABLED))]
#[test]
fn where_the_gil_is_held_threads_are_seen_without_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let idle = waiting(LET_GO);
    let holding = waiting(HOLD);
    while_inside(&idle, "", |waits| {
        while_inside(&holding, "", |holds| {
            dump_when_held();
            for _ in 0..3 {
                let began = Instant::now();
                let dump = stacks::dump(PATIENCE);
                let took = began.elapsed();
                assert!(took < Duration::from_secs(4), "{took:?}");
                let said = "== main interpreter ==\n\nIts GIL could not be acquired when it was asked for last, and is still \
                            waited for. These stacks were taken without the GIL:\n";
                assert!(dump.contains(said), "{dump}");
                for ident in [waits, holds] {
                    let stack = part(&dump, &format!("Thread {ident:#x}")).expect(&dump);
                    assert_eq!(functions(stack), ["application", "in_between", "innermost"]);
                }
            }
            let dump = stacks::dump_without_gil();
            let stack = part(&dump, &format!("Thread {holds:#x}")).expect(&dump);
            assert_eq!(functions(stack), ["application", "in_between", "innermost"]);
        });
    });
    // The helpers that waited for the GIL have got it, and end.
    let until = Instant::now() + PATIENCE;
    while stacks::dump(PATIENCE).contains("could not be acquired") {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Each GIL separately.
#[cfg(all(Py_3_13, not(Py_GIL_DISABLED)))]
#[test]
fn a_replica_that_holds_its_gil_is_seen_without_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let script = waiting(HOLD);
    let group = "own-2-stacks";
    assert!(crate::load(
        group.as_bytes(),
        script.path.as_os_str().as_encoded_bytes(),
        0
    ));
    while_inside(&script, group, |holds| {
        let dump = dump_when_held();
        let parts: Vec<&str> = dump.split("== ").collect();
        let of = |name: &str| {
            let at = parts
                .iter()
                .position(|part| part.contains(name))
                .expect(&dump);
            parts[at]
        };
        let replicas = [1, 2].map(|at| {
            of(&format!(
                "interpreter {at} of 2 of application group '{group}'"
            ))
        });
        let held = |part: &&&str| part.contains("Its GIL could not be acquired");
        assert_eq!(replicas.iter().filter(held).count(), 1, "{dump}");
        let held = replicas.iter().find(held).unwrap();
        let stack = part(held, &format!("Thread {holds:#x}")).expect(&dump);
        assert_eq!(functions(stack), ["application", "in_between", "innermost"]);
    });
}

#[test]
fn a_deep_stack_is_cut_at_its_outer_end() {
    let script = Script::new(
        "import os, struct, threading\n\
         def deeper(environ, depth):\n\
         \x20   if depth: return deeper(environ, depth - 1)\n\
         \x20   os.write(int(environ['tell']), struct.pack('L', threading.get_ident()))\n\
         \x20   os.read(int(environ['wait']), 1)\n\
         def application(environ, start_response):\n\
         \x20   deeper(environ, 300)\n\
         \x20   return respond(start_response, 'done')\n",
    );
    while_inside(&script, "", |ident| {
        let main = interpreter::main().unwrap();
        let stack = thread_state::attach(main, |py| stacks::of_thread(py, ident)).unwrap();
        let (first, rest) = stack.split_once('\n').unwrap();
        assert_eq!(first, "  ... calls further out are left out");
        let functions = functions(rest);
        assert!(functions.iter().all(|function| *function == "deeper"));
        assert!((50..=100).contains(&functions.len()), "{}", functions.len());
        assert!(stack.len() <= (16 << 10) + 100);
    });
}

#[cfg(not(Py_GIL_DISABLED))]
#[test]
fn of_very_many_threads_the_newest_are_shown() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let script = Script::new(
        "import _thread, time\n\
         gate = _thread.allocate_lock()\n\
         gate.acquire()\n\
         there = []\n\
         def stay():\n\
         \x20   there.append(None)\n\
         \x20   with gate: pass\n\
         def application(environ, start_response):\n\
         \x20   _thread.stack_size(1 << 16)\n\
         \x20   for _ in range(1100): _thread.start_new_thread(stay, ())\n\
         \x20   _thread.stack_size(0)\n\
         \x20   while len(there) < 1100: time.sleep(0.01)\n\
         \x20   return respond(start_response, 'done')\n\
         def end(environ, start_response):\n\
         \x20   gate.release()\n\
         \x20   return respond(start_response, 'done')\n",
    );
    let request = || script.request().group("stack-of-many");
    assert_eq!(request().text(), "done");
    let dump = stacks::dump(PATIENCE);
    assert_eq!(request().callable("end").text(), "done");
    let (_, rest) = dump
        .split_once("== sub-interpreter 'stack-of-many' ==")
        .expect(&dump);
    let shown = rest.split("\n== ").next().unwrap_or(rest);
    assert!((950..=1000).contains(&shown.matches("in stay\n").count()));
    assert!(shown.contains("There are more threads, older than these.\n"));
    assert!(dump.len() <= (256 << 10) + 100, "{}", dump.len());
}

/// The application may use `faulthandler`, even on the same signal.
#[test]
fn the_application_may_use_faulthandler_and_the_signal() {
    let script = Script::app(
        "import faulthandler, signal, tempfile, os\n\
         with tempfile.TemporaryFile() as file:\n\
         \x20   number = signal.SIGRTMAX - 4\n\
         \x20   faulthandler.register(number, file=file, all_threads=False)\n\
         \x20   signal.raise_signal(number)\n\
         \x20   faulthandler.unregister(number)\n\
         \x20   file.seek(0)\n\
         \x20   written = file.read()\n\
         answer = ('application' in written.decode(), signal.getsignal(signal.SIGRTMAX - 3) is signal.SIG_DFL)\n\
         return respond(start_response, answer)",
    );
    // Signals are blocked on the engine's own threads.
    let request = script.request().group("run-direct-faulthandler");
    assert_eq!(request.text(), "(True, True)");
}
