//! New code by replacing children: rolls under load, code that does not load, processes that are killed during a roll,
//! warm-up.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Builder, Connection, Mpm, Over, Pid, Request, Server, descriptors, embedded_only,
    eventually_by_turns, is_alive, kill, long, mpm_tests, ours_only, own_kib, rss_kib,
};

mpm_tests! {
    fn edited_modules_are_taken_up_under_load(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.conf("WSGIReload modules"));
        // After its first roll the server has all of its resources, so the later rolls are compared with that.
        server.write(MODULE, version(1));
        takes_up(&server, 1);
        settled(&server);
        let before = Resources::of(&server);
        let clients = Clients::default();
        let (edits, pause) = if long() { (100, 1200) } else { (10, 1200) };
        let mut last = 1;
        thread::scope(|scope| {
            for client in 0..16 {
                let (clients, server) = (&clients, &server);
                scope.spawn(move || clients.run(server, client % 2 == 0));
            }
            let _end = clients.over.at_end();
            for edit in 2..edits + 2 {
                if edit == edits / 2 {
                    server.write(MODULE, "def broken(:\n");
                    server.allow_log("is refused|WSGI0110|SyntaxError|WSGI1134");
                } else {
                    last = edit;
                    server.write(MODULE, version(edit));
                }
                thread::sleep(Duration::from_millis(pause));
            }
            takes_up(&server, last);
            settled(&server);
            clients.watch_for_older_than(last);
            thread::sleep(Duration::from_secs(1));
        });
        let (done, seen) = (clients.done.load(Relaxed), clients.seen());
        eprintln!("{mpm}: {done} requests, {} versions of {edits}", seen.len());
        let wrong = clients.wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{} of {done} requests failed: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
        assert!(seen.len() > 2, "the load has seen {seen:?}");
        before.assert_kept(&server, mpm);
        server.allow_log(FULL);
    }

    fn the_only_child_is_replaced(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.one_child().conf(TOUCH));
        let child = server.only_child();
        let clients = Clients::default();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| clients.run(&server, false));
            }
            let _end = clients.over.at_end();
            for number in 1..4 {
                server.write(MODULE, version(number));
                server.write("touched", number.to_string());
                takes_up(&server, number);
                settled(&server);
            }
        });
        let wrong = clients.wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(!is_alive(child));
        server.expect_log("touched was touched");
        server.allow_log(FULL);
    }

    fn an_idle_server_is_replaced(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.conf(TOUCH));
        let before = server.children();
        server.write(MODULE, version(1));
        server.write("touched", "1");
        server.expect_log("all children have the code of revision 2");
        eventually_by_turns("no child of before is left", || {
            let left = server.children().iter().any(|child| before.contains(child));
            (!left).then_some(())
        });
        assert_eq!(server.get("/app").expect(200).text(), "1");
        server.allow_log(FULL);
    }

    fn clients_are_told_that_the_child_leaves(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.conf(TOUCH));
        let request = Request::get("/app").keep_alive();
        let mut connection = server.connect();
        assert_eq!(connection.exchange(&request).unwrap().text(), "0");
        server.write(MODULE, version(1));
        server.write("touched", "1");
        server.expect_log("is well");
        // The child keeps the connection while the client uses it, until the child has announced that it closes it.
        eventually_by_turns("the last response", || {
            let response = connection.exchange(&request).expect("no response is cut").expect(200);
            (response.header("connection") == Some("close")).then_some(())
        });
        assert!(connection.is_closed_by_server());
        takes_up(&server, 1);
        server.allow_log(FULL);
    }

    fn code_that_does_not_load_is_not_taken_up(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.metrics().conf("WSGIReload modules"));
        all_are_ready(&server);
        let children = server.children();
        server.write(MODULE, "VERSION = nothing\n");
        let refused = server.expect_log("revision 2, is refused, and children go on with the old code: .*NameError");
        assert_eq!(Some(refused.pid), server.reloader());
        server.allow_log("WSGI0110|NameError");
        for _ in 0..20 {
            assert_eq!(server.get("/app").expect(200).text(), "0");
        }
        assert!(children.iter().all(|child| is_alive(*child)));
        assert_eq!(server.count_log("is refused"), 1, "said once, however many children see the file");
        server.write(MODULE, version(2));
        takes_up(&server, 2);
        server.allow_log(FULL);
    }

    /// No child retires for code that ends the process that tries it, or every child that starts with it.
    fn code_that_ends_its_process_is_not_taken_up(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.conf(TOUCH));
        server.allow_log(FULL);
        server.allow_log("is refused|exit signal|ended before they were ready");
        for (name, ends, how) in [
            ("exit", "os._exit(0)", "ended the process that tried it, with status 0"),
            ("kill", "os.kill(os.getpid(), 9)", "the process that tried it was ended by signal 9"),
        ] {
            server.write(MODULE, format!("import os\n{ends}\n"));
            server.write("touched", name);
            server.expect_log(&format!("is refused.*app.wsgi': {how}"));
            eventually_by_turns("it is over", || (server.count_log("is refused") == server.count_log("there is new code")).then_some(()));
            assert_eq!(server.get("/app").expect(200).text(), "0");
        }
        // The code works in the trial, and nowhere else.
        let tried = "open(f'/proc/{os.getppid()}/comm').read().startswith('wsgi-relo')";
        server.write(MODULE, format!("import os\nif not {tried}: os.kill(os.getpid(), 9)\n{}", version(1)));
        let clients = Clients::default();
        thread::scope(|scope| {
            scope.spawn(|| clients.run(&server, false));
            server.write("touched", "children");
            let _end = clients.over.at_end();
            // More than three children, if several end between two checks of the reloader.
            server.expect_log("is refused.*: ([3-9]|[1-9][0-9]) children in a row ended before they were ready");
        });
        let wrong = clients.wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        roll(&server, 2, "mended");
        takes_up(&server, 2);
    }

    /// Another thread of the child is in the middle of its import, and is not disturbed.
    fn a_child_that_still_loads_ends_for_newer_code(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.log_level("info").metrics().conf(TOUCH));
        server.allow_log(FULL);
        all_are_ready(&server);
        // The code works in the trial, and never ends in children. If it called `exit`, that would end it by a signal.
        let tried = "open(f'/proc/{os.getppid()}/comm').read().startswith('wsgi-relo')";
        let endless = "import ctypes, sys, time\nlibc = ctypes.CDLL(None)\nlibc.__cxa_atexit(libc.abort, None, None)\n\
                       print('loads without an end', file=sys.stderr)\nwhile True: time.sleep(0.001)\n";
        let endless = endless.lines().map(|line| format!("    {line}\n")).collect::<String>();
        server.write(MODULE, format!("import os\nif not {tried}:\n{endless}{}", version(1)));
        server.write("touched", "endless");
        let loading = server.expect_log("loads without an end");
        roll(&server, 2, "mended");
        let ended = server.expect_log("there is other code: this child ends, for one that loads it");
        assert_eq!(loading.pid, ended.pid);
        takes_up(&server, 2);
        eventually_by_turns("it has ended", || (!is_alive(ended.pid)).then_some(()));
        assert_eq!(server.count_log("exit signal"), 0);
    }

    /// The last child that serves does not leave for a successor that has no room.
    fn children_that_finish_their_requests_have_all_places(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        if !mpm.threaded() {
            return eprintln!("with prefork, no child that finishes a request could answer another one");
        }
        let server = start(mpm, |builder| {
            builder.one_child().conf("ServerLimit 2\nMinSpareThreads 1\nMaxSpareThreads 64").conf(TOUCH)
        });
        server.allow_log(FULL);
        let mut held = Vec::new();
        for number in 1..3 {
            let mut connection = server.ask("/app/hold");
            assert_eq!(connection.read_head().unwrap().status, 200);
            held.push(connection);
            roll(&server, number, &"v".repeat(number as usize));
            if number == 1 {
                takes_up(&server, 1);
            }
        }
        server.expect_log("revision 3, is well");
        // The first child still answers; the second one would have to leave before the third could start.
        for _ in 0..30 {
            assert_eq!(server.get("/app").expect(200).text(), "1");
            thread::sleep(Duration::from_millis(100));
        }
        server.write("gate", "open");
        takes_up(&server, 2);
        for mut connection in held {
            while !connection.read_chunk().unwrap().unwrap().is_empty() {}
        }
    }

    /// Another application must not suffer.
    fn what_is_broken_from_the_start_keeps_no_child_from_serving(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = Server::builder(mpm)
            .pool(3, 4)
            .metrics()
            .file("broken.wsgi", "def application(:\n")
            .conf("WSGIReload modules
                WSGIScriptAlias /fine ${APPS}/hello.wsgi
                WSGIScriptAlias /broken ${ROOT}/broken.wsgi")
            .start();
        server.allow_log("WSGI0110|WSGI0100|SyntaxError|broken.wsgi|could not load");
        all_are_ready(&server);
        server.get("/fine").expect(200);
        server.get("/broken").expect(500);
        assert_eq!(server.count_log("leaves connections to the others"), 0);
    }

    fn warm_up_comes_before_clients(mpm) {
        ours_only!("mod_wsgi does not warm up");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.conf(TOUCH).conf("WSGIWarmup /app/warm?up=1"));
        let warmed = server.get("/app").expect(200);
        let environ: Vec<&str> = warmed.header("x-warmed").unwrap_or_default().split('|').collect();
        let port = server.port().to_string();
        let host = format!("wsgi.test:{port}");
        let expected = ["GET", "/app", "/warm", "up=1", &host, "127.0.0.1", "1", "mod_wsgi_rs (warm-up)"];
        assert_eq!(environ, expected);
        // Code that answers the warm-up with an error is refused.
        server.write(MODULE, "VERSION = 1\nWARM = '500 Oh'\n");
        server.write("touched", "1");
        server.expect_log("revision 2, is refused.*WSGIWarmup /app/warm\\?up=1: the status is 500");
        server.allow_log("WSGIWarmup /app/warm");
        assert_eq!(server.get("/app").expect(200).text(), "0");
        server.write(MODULE, "VERSION = 2\nWARM = '404 Not Found'\n");
        server.write("touched", "22");
        takes_up(&server, 2);
        server.allow_log(FULL);
    }

    fn any_process_may_be_killed_meanwhile(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.conf(TOUCH));
        server.allow_log(FULL);
        server.allow_log("the reloader, process .*, ended by signal 9|exit signal Killed");
        let reloader = eventually_by_turns("a reloader", || server.reloader());
        kill(reloader);
        let next = eventually_by_turns("another reloader", || server.reloader().filter(|pid| *pid != reloader));
        roll(&server, 1, "v");
        takes_up(&server, 1);
        settled(&server);
        // This is in the middle of a roll.
        let rolls = server.count_log("is well");
        roll(&server, 2, "vv");
        eventually_by_turns("a roll", || (server.count_log("is well") > rolls).then_some(()));
        kill(next);
        takes_up(&server, 2);
        settled(&server);
        // Kills the trial.
        server.write(MODULE, format!("import time\ntime.sleep(2)\n{}", version(3)));
        server.write("touched", "vvv");
        let reloader = eventually_by_turns("another reloader", || server.reloader());
        let trial = eventually_by_turns("a trial", || harness::children_of(reloader).first().copied());
        kill(trial);
        server.expect_log("is refused.*was ended by signal 9");
        assert_eq!(server.get("/app").expect(200).text(), "2");
        // Kills a child while the reloader waits for it.
        let rolls = server.count_log("is well");
        roll(&server, 4, "vvvv");
        eventually_by_turns("a roll", || (server.count_log("is well") > rolls).then_some(()));
        let child = server.children()[0];
        kill(child);
        // The child must be reaped, so that none of its threads might still accept connections.
        let process = format!("/proc/{child}");
        eventually_by_turns("its end", || (!std::path::Path::new(&process).exists()).then_some(()));
        takes_up(&server, 4);
    }

    fn a_restart_in_the_middle(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.conf(TOUCH));
        server.allow_log(FULL);
        roll(&server, 1, "v");
        server.expect_log("is well");
        server.graceful_restart();
        takes_up(&server, 1);
        eventually_by_turns("a reloader", || server.reloader());
        roll(&server, 2, "vv");
        takes_up(&server, 2);
        settled(&server);
    }

    /// With this definition, only httpd replaces children.
    fn the_mpm_is_left_alone(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = Server::builder(mpm)
            .pool(2, 4)
            .file("code/app.wsgi", APPLICATION)
            .file(MODULE, version(0))
            .file("touched", "")
            .conf("Define WSGI_LEAVE_MPM_ALONE")
            .conf("WSGIScriptAlias /app ${ROOT}/code/app.wsgi")
            .conf("WSGIPythonPath ${ROOT}/code\nWSGIDontWriteBytecode On")
            .conf(TOUCH)
            .start();
        server.allow_log("WSGI1141");
        assert_eq!(server.get("/app").expect(200).text(), "0");
        server.expect_log("WSGI1141: new code needs a restart of httpd.*: WSGI_LEAVE_MPM_ALONE is defined");
        assert_eq!(server.reloader(), None);
        server.write(MODULE, version(1));
        server.graceful_restart();
        takes_up(&server, 1);
    }

    fn without_metrics(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, |builder| builder.conf(TOUCH).conf("WSGIMetrics Off"));
        roll(&server, 1, "v");
        takes_up(&server, 1);
        server.allow_log(FULL);
    }
}

fn start(mpm: Mpm, more: impl Fn(Builder) -> Builder) -> Server {
    let spare = if mpm.threaded() {
        "MinSpareThreads 64\nMaxSpareThreads 256"
    } else {
        "MinSpareServers 2"
    };
    let builder = Server::builder(mpm)
        // Event closes connections that it keeps if no thread is free at once, and all clients may be at one child.
        .pool(2, if mpm.threaded() { 64 } else { 10 })
        .file("code/app.wsgi", APPLICATION)
        .file(MODULE, version(0))
        .file("touched", "")
        .conf("WSGIScriptAlias /app ${ROOT}/code/app.wsgi")
        .conf("WSGIPythonPath ${ROOT}/code\nWSGIDontWriteBytecode On")
        .conf("MaxKeepAliveRequests 50\nKeepAliveTimeout 3");
    let server = more(builder.conf(spare)).start();
    // With a reloader running, changes are noticed.
    eventually_by_turns("a reloader", || server.reloader());
    assert_eq!(server.get("/app").expect(200).text(), "0");
    server
}

/// Waits until no child is still loading its code.
#[track_caller]
fn all_are_ready(server: &Server) {
    eventually_by_turns("all children are ready", || {
        let status = server.status();
        let children = status["children"].as_array()?;
        let ready = children.iter().filter(|child| child["state"] == "ready");
        // Prefork starts with two children.
        (children.len() > 1 && ready.count() == children.len()).then_some(())
    });
}

fn version(number: u32) -> String {
    format!("VERSION = {number}\n")
}

fn roll(server: &Server, number: u32, touched: &str) {
    server.write(MODULE, version(number));
    server.write("touched", touched);
}

/// Waits until every response is from this version.
#[track_caller]
fn takes_up(server: &Server, number: u32) {
    let mut in_a_row = 0;
    let text = number.to_string();
    eventually_by_turns("the new code answers everywhere", || {
        let answers = server.get("/app").expect(200).text() == text;
        in_a_row = if answers { in_a_row + 1 } else { 0 };
        (in_a_row >= 100).then_some(())
    });
}

/// Waits until no roll is running, that is, until as many have ended as have begun.
#[track_caller]
fn settled(server: &Server) {
    eventually_by_turns("the end of the rolls", || {
        let ends = r"all children have the code of revision \d+|revision \d+, is refused";
        let last = |pattern: &str| {
            let pattern = regex::Regex::new(pattern).unwrap();
            let records = server.records();
            records
                .iter()
                .rposition(|record| pattern.is_match(&record.message))
        };
        (last(ends) > last("there is new code, revision")).then_some(())
    });
}

/// The resources of processes, which must be the same after many rolls.
struct Resources {
    children: usize,
    /// KiB of memory of the largest child.
    memory: u64,
    parent: u64,
    descriptors: usize,
}

impl Resources {
    fn of(server: &Server) -> Self {
        let children = server.children();
        Self {
            children: children.len(),
            memory: children
                .iter()
                .map(|child| rss_kib(*child))
                .max()
                .unwrap_or(0),
            parent: own_kib(server.pid()),
            descriptors: descriptors(server.pid()),
        }
    }

    fn assert_kept(&self, server: &Server, mpm: Mpm) {
        // Spare children end one per second.
        let most = if mpm.threaded() { 4 } else { 20 };
        eventually_by_turns("no child is left over", || {
            (server.children().len() <= most).then_some(())
        });
        let after = Self::of(server);
        eprintln!(
            "{mpm}: children {} and {}, of {} and {} KiB; the parent {} and {} KiB, {} and {} descriptors",
            self.children,
            after.children,
            self.memory,
            after.memory,
            self.parent,
            after.parent,
            self.descriptors,
            after.descriptors
        );
        assert!(
            after.memory <= self.memory + 16 * 1024,
            "children have grown"
        );
        assert!(after.parent <= self.parent + 1024, "the parent has grown");
        assert!(
            after.descriptors <= self.descriptors,
            "the parent has more descriptors"
        );
        assert_eq!(
            harness::children_of(server.reloader().expect("a reloader")),
            Vec::<Pid>::new()
        );
    }
}

/// Clients that send requests without a pause, and their responses.
#[derive(Default)]
struct Clients {
    done: AtomicU64,
    seen: Mutex<BTreeSet<u32>>,
    wrong: Mutex<Vec<String>>,
    /// Versions below this one are wrong from now on.
    least: Mutex<u32>,
    over: Over,
}

impl Clients {
    fn run(&self, server: &Server, keeps: bool) {
        let mut connection: Option<Connection> = None;
        let mut requests = 0;
        let request = if keeps {
            Request::get("/app").keep_alive()
        } else {
            Request::get("/app")
        };
        while !self.over.is_over() {
            let least = *self.least.lock().unwrap();
            let begun = Instant::now();
            let mut open = match connection.take() {
                Some(open) => {
                    requests += 1;
                    open
                }
                None => match Connection::open(server.address()) {
                    Ok(open) => {
                        requests = 1;
                        open
                    }
                    Err(error) => {
                        self.complain(format!("no connection: {error}"));
                        continue;
                    }
                },
            };
            match open.exchange(&request) {
                Ok(response) if response.status() == 200 && response.is_complete() => {
                    let closes = response.header("connection") == Some("close");
                    let number = response.text().parse().unwrap_or(0);
                    if number < least {
                        self.complain(format!(
                            "old code, version {number}, after the roll to {least}"
                        ));
                    }
                    self.seen.lock().unwrap().insert(number);
                    connection = (keeps && !closes).then_some(open);
                }
                Ok(response) => self.complain(format!("status {}", response.status())),
                Err(error) => {
                    let after = begun.elapsed();
                    self.complain(format!(
                        "request {requests} of a connection: {error}, after {after:?}"
                    ));
                }
            }
            self.done.fetch_add(1, Relaxed);
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn complain(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn watch_for_older_than(&self, least: u32) {
        *self.least.lock().unwrap() = least;
    }

    fn seen(&self) -> BTreeSet<u32> {
        self.seen.lock().unwrap().clone()
    }
}

const MODULE: &str = "code/rolled.py";
const TOUCH: &str = "WSGIReload touch ${ROOT}/touched";

/// Messages of an MPM about a server that has the most children while one of them ends.
pub(crate) const FULL: &str = "AH00288|AH00161|AH00286|AH00287|AH00484|AH10159|AH03490";

/// Answers with its version of the module, and with the URLs of its warm-up.
const APPLICATION: &str = r#"import os, time
import rolled

WARMED = []
KEYS = ('REQUEST_METHOD', 'SCRIPT_NAME', 'PATH_INFO', 'QUERY_STRING', 'HTTP_HOST', 'REMOTE_ADDR',
        'mod_wsgi.warmup', 'HTTP_USER_AGENT')


def hold():
    yield b'held'
    while not os.path.exists(os.path.dirname(__file__) + '/../gate'):
        time.sleep(0.01)


def application(environ, start_response):
    status = '200 OK'
    if environ.get('mod_wsgi.warmup'):
        WARMED.append('|'.join(environ[key] for key in KEYS))
        status = getattr(rolled, 'WARM', status)
    if environ['PATH_INFO'] == '/hold':
        start_response(status, [])
        return hold()
    body = str(rolled.VERSION).encode()
    start_response(status, [('Content-Length', str(len(body))), ('X-Warmed', ' '.join(WARMED))])
    return [body]
"#;
