//! How the supervisor starts, replaces and ends the processes of groups, also those that hang, fail or are killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use harness::{
    ClientError, Connection, Over, Pid, Request, Response, Server, descriptors, eventually,
    graceful, hang_up, is_alive, kill, long, maps, mpm_tests, ours_only, python_home,
    script_answering, wait_until_ended,
};
use rustix::process::Signal;

use crate::daemon::{begun, group_process, is_root, pid_of, send, site};

/// Waits at its load as long as the file `out/hang` is there.
const HANGS: &str = "import os, time
hang = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'out/hang')
while os.path.exists(hang): time.sleep(0.02)
";

/// A script that processes load at their start, and that may hang.
const LOADS_AHEAD: &str =
    "WSGIImportScript ${ROOT}/hangs.py process-group=site application-group=%{GLOBAL}";

mpm_tests! {
    fn a_load_that_hangs_is_given_up(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 startup-timeout=1").file("hangs.py", HANGS).conf(LOADS_AHEAD).start();
        let old = pid_of(&server.get("/process").expect(200).json());
        server.write("out/hang", "");
        graceful(server.pid());
        server.expect_log("WSGI1160: process group 'site': .*: WSGI script '.*hangs.py' takes longer than 1 s");
        server.expect_log("WSGI1153: process \\d+ of process group 'site' ended with status 1 before");
        // The messages of the engine about the load.
        server.allow_log("WSGI10[0-9][0-9]|WSGI1153|WSGI1160");
        assert_eq!(pid_of(&server.get("/process").expect(200).json()), old);
        fs::remove_file(server.root().join("out/hang")).unwrap();
        eventually("a successor serves", || {
            (pid_of(&server.get("/process").expect(200).json()) != old).then_some(())
        });
    }

    fn the_time_of_the_server_holds_for_a_first_start(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3")
            .file("hangs.py", HANGS)
            .file("out/hang", "")
            .conf(LOADS_AHEAD)
            .conf("WSGIStartupTimeout 1")
            .start();
        server.expect_log("WSGI1160: .* takes longer than 1 s");
        server.allow_log("WSGI10[0-9][0-9]|WSGI1153|WSGI1160");
        fs::remove_file(server.root().join("out/hang")).unwrap();
        server.get("/process").expect(200);
    }

    fn a_start_that_is_stopped_is_killed(mpm) {
        ours_only!("mod_wsgi has its own tests");
        if !long() {
            return;
        }
        let server = site(mpm, "threads=3 startup-timeout=1").file("hangs.py", HANGS).conf(LOADS_AHEAD).start();
        let old = pid_of(&server.get("/process").expect(200).json());
        server.write("out/hang", "");
        graceful(server.pid());
        let starting = another(&server, &[old]);
        send(starting, Signal::STOP);
        server.expect_log(&format!("WSGI1161: process {starting} of process group 'site' is killed"));
        server.allow_log("WSGI10[0-9][0-9]|WSGI1153|WSGI1160|WSGI1161");
        wait_until_ended(starting);
        server.get("/process").expect(200);
    }

    fn new_code_supersedes_a_start(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 startup-timeout=0").metrics().file("hangs.py", HANGS).conf(LOADS_AHEAD).start();
        let old = pid_of(&server.get("/process").expect(200).json());
        server.write("out/hang", "");
        send(old, Signal::USR1);
        let mut known = vec![old];
        // Each time the process that starts has old code, so it ends, and another one starts.
        for way in ["restart", "the one that serves", "the one that starts"] {
            let starting = another(&server, &known);
            known.push(starting);
            match way {
                "restart" => assert!(server.wsgictl(&["restart", "site", "--no-wait"]).status.success()),
                "the one that serves" => send(old, Signal::USR1),
                _ => send(starting, Signal::USR1),
            }
            eventually(way, || (!is_alive(starting)).then_some(()));
        }
        let last = another(&server, &known);
        fs::remove_file(server.root().join("out/hang")).unwrap();
        eventually("the last one serves", || {
            (pid_of(&server.get("/process").expect(200).json()) == last).then_some(())
        });
        wait_until_ended(old);
        assert_eq!(group_process(&server), last);
    }

    fn a_stop_ends_a_start_at_once(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 startup-timeout=0 shutdown-timeout=30")
            .file("hangs.py", HANGS)
            .file("out/hang", "")
            .conf(LOADS_AHEAD)
            .start();
        let starting = group_process(&server);
        let took = server.stop();
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(!is_alive(starting));
    }

    fn a_request_that_was_given_up_has_one_successor(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 request-timeout=1 interrupt-timeout=1 graceful-timeout=60")
            .pool(2, 4)
            .metrics()
            .app("/late", "deadlines.wsgi")
            .start();
        let old = pid_of(&server.get("/process").expect(200).json());
        server.get("/late/sleep?1000").expect(504);
        server.allow_log("WSGI106[1235]");
        let begun = Instant::now();
        eventually("the old process ends", || (!is_alive(old)).then_some(()));
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        server.expect_log("WSGI1065: this process ends without waiting for 1 of its threads");
        // It would have asked again each second.
        thread::sleep(Duration::from_secs(3));
        server.expect_count("wsgi_children_started_total", &[("process_group", "site")], 2);
        server.get("/process").expect(200);
    }

    fn signals_of_httpd_end_no_process(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").pool(2, 4).start();
        let process = pid_of(&server.get("/process").expect(200).json());
        let supervisor = server.supervisor().expect("it runs");
        for signal in [Signal::HUP, Signal::USR2, Signal::WINCH] {
            send(process, signal);
        }
        for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::WINCH, Signal::INT] {
            send(supervisor, signal);
        }
        thread::sleep(Duration::from_millis(300));
        assert_eq!(pid_of(&server.get("/process").expect(200).json()), process);
        assert_eq!(server.supervisor(), Some(supervisor));
        // Under prefork, httpd sends a signal to all processes of its group.
        for _ in 0..2 {
            server.restart_now();
            server.get("/process").expect(200);
        }
        hang_up(server.pid());
        eventually("it serves again", || {
            let answer = server.try_send(&Request::get("/process")).ok()?;
            (answer.status() == 200).then_some(())
        });
        assert_eq!(server.count_log("WSGI115[34]|WSGI1162"), 0);
    }

    fn a_group_that_fails_is_told_at_once(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 python-home=/nonexistent").pool(2, 4).start();
        server.allow_log("WSGI1003|WSGI1153|WSGI1155");
        server.expect_log("WSGI1003: python-home= of process group 'site': ");
        for round in 1..=2 {
            eventually("it has failed twice", || (server.count_log("WSGI1153") >= 2 * round).then_some(()));
            let begun = Instant::now();
            let refused = server.get("/hello").expect(503);
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            assert_eq!(refused.header("Retry-After"), Some("1"));
            server.expect_log("WSGI1155: process group 'site' cannot be reached: its processes have failed to start");
            // The same holds after a restart that changes nothing.
            graceful(server.pid());
        }
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
        let config = fs::read_to_string(server.root().join("httpd.conf")).unwrap();
        server.write("httpd.conf", config.replace("python-home=/nonexistent", ""));
        graceful(server.pid());
        eventually("the group serves", || (server.get("/hello").status() == 200).then_some(()));
    }

    fn what_a_process_was_running_when_it_ended(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").metrics().start();
        let process = pid_of(&server.get("/process").expect(200).json());
        server.get("/process/end?secret=1").expect(500);
        let line = server.expect_log(&format!(
            "WSGI1154: process {process} of process group 'site' ended with status 3 while it took requests; it was \
             running GET /process/end of application '/process' for [0-9.]+ s \\(in the application\\)$"
        ));
        assert!(!line.message.contains("secret"), "{line:?}");
        server.expect_log("WSGI1156: process group 'site': the connection to the process that had the request GET /process/end is lost: ");
        server.allow_log("WSGI1154|WSGI1156");
        let status = server.status();
        let death = &status["deaths"][0];
        assert_eq!(death["pid"].to_string(), process.to_string());
        assert_eq!(death["how"], "with status 3, in process group 'site'");
        assert!(death["running"].as_str().is_some_and(|text| text.starts_with("GET /process/end of ")), "{death}");
        let idle = pid_of(&server.get("/process").expect(200).json());
        kill(idle);
        server.expect_log(&format!("WSGI1154: process {idle} .* ended by SIGKILL .*it was running no request that is known$"));
    }

    fn an_evicted_process_has_a_time_of_its_own(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 graceful-timeout=1 eviction-timeout=60 shutdown-timeout=1").pool(2, 4).start();
        let mut waiting = server.ask("/process/wait");
        let old = eventually("the request runs", || begun(&server));
        send(old, Signal::USR1);
        eventually("another one serves", || {
            (pid_of(&server.get("/process").expect(200).json()) != old).then_some(())
        });
        thread::sleep(Duration::from_secs(3));
        // The folder stays one to which the application may write.
        let gate = server.root().join("out/gate");
        fs::write(&gate, "").unwrap();
        let answer = waiting.read_response("GET").unwrap().expect(200).json();
        assert_eq!(pid_of(&answer), old);
        eventually("it ends", || (!is_alive(old)).then_some(()));
        // Any other replacement has the other time.
        fs::remove_file(&gate).unwrap();
        fs::remove_file(server.root().join(format!("out/gate.{old}"))).unwrap();
        let mut waiting = server.ask("/process/wait");
        let old = eventually("the request runs", || begun(&server));
        server.allow_log("WSGI1156|WSGI1162");
        graceful(server.pid());
        server.expect_log(&format!("WSGI1162: process {old} .* ended .*; it was running GET /process/wait"));
        assert_eq!(waiting.read_response("GET").unwrap().status(), 500);
    }

    fn limits_of_the_server(mpm) {
        ours_only!("mod_wsgi does not recycle by memory");
        const KEEPS: &str = "KEPT = []
def application(environ, start_response):
    KEPT.append(b'x' * 4194304)
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
";
        let server = site(mpm, "threads=3")
            .file("keeps.wsgi", KEEPS)
            .conf("WSGIRecycle memory=150M\nWSGIScriptAlias /keeps ${ROOT}/keeps.wsgi")
            .start();
        let first = group_process(&server);
        eventually("a successor takes over", || {
            server.get("/keeps").expect(200);
            (!is_alive(first)).then_some(())
        });
        server.expect_log("this process asks for a successor: it uses too much memory");
        drop(server);
        let server = site(mpm, "threads=3 maximum-requests=1").start();
        let first = pid_of(&server.get("/process").expect(200).json());
        eventually("a process serves one request", || (!is_alive(first)).then_some(()));
        server.get("/process").expect(200);
    }

    fn a_script_that_is_touched_again_and_again(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = Server::builder(mpm)
            .file("site/app.wsgi", script_answering("0"))
            .conf("WSGISocketPrefix ${ROOT}/wsgi
                WSGIDaemonProcess site threads=3\nWSGIProcessGroup site
                WSGIScriptAlias / ${ROOT}/site/app.wsgi
                WSGIImportScript ${ROOT}/site/app.wsgi process-group=site application-group=%{GLOBAL}
                WSGIApplicationGroup %{GLOBAL}")
            .start();
        for number in 1..=5 {
            server.write("site/app.wsgi", script_answering(number.to_string()));
            server.get("/").expect(200);
            thread::sleep(Duration::from_millis(150));
        }
        eventually("the last version answers", || (server.get("/").expect(200).text() == "5").then_some(()));
        let last = eventually("only one process is left", || {
            let all = server.group_processes();
            (all.len() == 1).then(|| *all.first().expect("one"))
        });
        thread::sleep(Duration::from_secs(1));
        assert_eq!(group_process(&server), last);
    }

    fn another_root_folder(mpm) {
        ours_only!("mod_wsgi has its own tests");
        if !is_root() {
            return;
        }
        let server = site(mpm, "threads=3").start();
        let told = server.get("/process").expect(200).json();
        let maps = maps(group_process(&server));
        drop(server);
        // What the process has open now, it needs in the other folder as well, by all names.
        let mapped = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let mapped = mapped.filter_map(|path| path.split_once(".so")).map(|(name, _)| format!("{name}.so"));
        let mapped: BTreeSet<String> = mapped.collect();
        let mut needed: Vec<String> = mapped.iter().flat_map(|name| {
            let folder = Path::new(name).parent().expect("a folder");
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let paths = entries.filter_map(|entry| entry.path().into_os_string().into_string().ok());
            paths.filter(|path| path.starts_with(name)).collect::<Vec<_>>()
        }).collect();
        let folders = told["path"].as_array().expect("a list").iter().filter_map(|path| path.as_str());
        let library = folders.clone().find(|path| fs::metadata(format!("{path}/encodings")).is_ok());
        needed.push(library.expect("the standard library").into());
        if let Some(home) = python_home() {
            let program = home.join("bin/python3");
            let files = [fs::canonicalize(&program).unwrap(), program, home.join("pyvenv.cfg")];
            needed.extend(files.into_iter().filter(|file| file.exists()).map(|file| file.display().to_string()));
        }
        let server = site(mpm, "threads=3 chroot=${ROOT}/jail home=/inside").start_with(|root| {
            let jail = root.join("jail");
            fs::create_dir_all(jail.join("inside")).unwrap();
            let apps = stage_apps(root);
            let copied = Command::new("cp").args(["-rL", "--parents"]).args(&needed).arg(apps).arg(&jail).status();
            assert!(copied.is_ok_and(|status| status.success()));
        });
        let told = server.get("/process").expect(200).json();
        assert_eq!(told["folder"], "/inside");
        let process = pid_of(&told);
        assert_eq!(fs::read_link(format!("/proc/{process}/root")).unwrap(), server.root().join("jail"));
        assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
    }

    fn a_storm(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "processes=2 threads=3")
            .pool(4, 12)
            .file("site/app.wsgi", script_answering("touched"))
            .app("/late", "deadlines.wsgi")
            .conf("WSGIScriptAlias /touched ${ROOT}/site/app.wsgi")
            .start();
        server.allow_log("WSGI1102|WSGI1143|WSGI1154|WSGI1156|WSGI1162|exit signal|AH00288|AH00161|AH00286|AH00287|AH00484|AH10159|AH03490");
        // For each child that is killed event starts another one, whatever their number, but tells only as many of a restart
        // as MaxRequestWorkers allows. One that was not told is killed at the stop.
        server.allow_log("AH0004[56]");
        let time = Duration::from_secs(if long() { 60 } else { 15 });
        // Each is made at the first need.
        server.graceful_restart();
        let descriptors_before = descriptors(server.pid());
        let storm = Storm::during(&server, |storm| {
            let until = Instant::now() + time;
            for number in 0.. {
                if Instant::now() >= until {
                    break;
                }
                storm.strike(number);
                thread::sleep(Duration::from_millis(500));
            }
            // Each client goes on for a while in peace.
            storm.wait_for(10);
        });
        storm.expect_no_failures();
        eventually("two processes are left", || (server.group_processes().len() == 2).then_some(()));
        let processes = server.group_processes();
        let sockets = || fs::read_dir(server.root()).unwrap().flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".sock"))
            .count();
        assert_eq!(sockets(), 2);
        eventually("the parent has as many descriptors as before", || {
            (descriptors(server.pid()) <= descriptors_before).then_some(())
        });
        let root = server.root().to_owned();
        let children = server.children();
        server.stop();
        for pid in processes.into_iter().chain(children) {
            eventually("all processes have ended", || (!is_alive(pid)).then_some(()));
        }
        let left: Vec<_> = fs::read_dir(&root).into_iter().flatten().flatten()
            .map(|entry| entry.file_name())
            .filter(|name| {
                let name = name.to_string_lossy();
                name.ends_with(".sock") || name.contains(".segment")
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Returns the folder of the applications, as the configuration below `root` names it.
fn stage_apps(root: &Path) -> String {
    let config = fs::read_to_string(root.join("httpd.conf")).unwrap();
    let line = config
        .lines()
        .find(|line| line.trim().starts_with("Define APPS"));
    let word = line.and_then(|line| line.split_whitespace().nth(2));
    word.expect("the folder is defined")
        .trim_matches('"')
        .into()
}

/// Returns a process of groups that is none of these, once there is one.
fn another(server: &Server, known: &[Pid]) -> Pid {
    eventually("another process starts", || {
        server
            .group_processes()
            .into_iter()
            .find(|pid| !known.contains(pid))
    })
}

/// Clients of all kinds, while processes are replaced and killed.
struct Storm<'s> {
    server: &'s Server,
    /// When a process or a child was killed.
    kills: Mutex<Vec<Instant>>,
    done: [AtomicU64; KINDS.len()],
    /// The longest time until an answer, by kind, in milliseconds.
    slowest: [AtomicU64; KINDS.len()],
    /// Requests without a proper answer: when each began and ended, and what was wrong.
    failures: Mutex<Vec<(Instant, Instant, String)>>,
    over: Over,
}

/// A kind of client: its method and target, the length of its body, whether it keeps its connection, and how many
/// bytes the answer has.
type Kind = (&'static str, &'static str, usize, bool, Option<usize>);

const KINDS: [Kind; 6] = [
    ("GET", "/hello", 0, false, Some(12)),
    ("GET", "/hello", 0, true, Some(12)),
    ("GET", "/late/crawl?0.2", 0, true, None),
    ("POST", "/in/digest", 300_000, false, None),
    ("GET", "/slow/down", 0, true, Some(1_000_000)),
    ("GET", "/touched", 0, false, Some(7)),
];

/// How many clients there are of all kinds together.
const CLIENTS: usize = 32;

impl<'s> Storm<'s> {
    fn during(server: &'s Server, work: impl FnOnce(&Self)) -> Self {
        let storm = Self {
            server,
            kills: Mutex::default(),
            done: Default::default(),
            slowest: Default::default(),
            failures: Mutex::default(),
            over: Over::default(),
        };
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let storm = &storm;
                scope.spawn(move || storm.run(client % KINDS.len()));
            }
            let _end = storm.over.at_end();
            work(&storm);
        });
        storm
    }

    fn run(&self, kind: usize) {
        let (method, target, body, keeps, length) = match KINDS[kind] {
            (method, target @ "/in/digest", _, keeps, length) if long() => {
                (method, target, 20_000_000, keeps, length)
            }
            (method, "/slow/down", body, keeps, _) if long() => {
                (method, "/slow/down?20", body, keeps, Some(20_000_000))
            }
            (method, "/late/crawl?0.2", body, keeps, length) if long() => {
                (method, "/late/crawl?5", body, keeps, length)
            }
            kind => kind,
        };
        let mut request = Request::new(method, target);
        if body > 0 {
            request = request.body(vec![b'x'; body]);
        }
        if keeps {
            request = request.keep_alive();
        }
        let mut kept: Option<Connection> = None;
        while !self.over.is_over() {
            let begun = Instant::now();
            let was_kept = kept.is_some();
            let answered = self.ask(&request, &mut kept);
            let problem = match answered {
                // A server may close a connection that is kept at any time; then a client asks again.
                Err(_) if was_kept => continue,
                Err(error) => error.to_string(),
                Ok(response) => match response.status() {
                    200 if !response.is_complete() => String::from("the answer broke off"),
                    200 if length.is_some_and(|length| response.text().len() != length) => {
                        String::from("another answer")
                    }
                    200 => {
                        if !keeps || response.header("Connection") == Some("close") {
                            kept = None;
                        }
                        self.done[kind].fetch_add(1, Relaxed);
                        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                        self.slowest[kind].fetch_max(took, Relaxed);
                        continue;
                    }
                    status => format!("status {status}"),
                },
            };
            kept = None;
            let failure = (
                begun,
                Instant::now(),
                format!("{method} {target}: {problem}"),
            );
            self.failures.lock().unwrap().push(failure);
        }
    }

    fn ask(
        &self,
        request: &Request,
        kept: &mut Option<Connection>,
    ) -> Result<Response, ClientError> {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(self.server.address())?,
        };
        let response = connection.exchange(request)?;
        *kept = Some(connection);
        Ok(response)
    }

    /// Does the next thing that must harm no request but those inside a killed process.
    fn strike(&self, number: usize) {
        let server = self.server;
        let process = || server.group_processes().into_iter().nth(number % 2);
        match number % 6 {
            0 => graceful(server.pid()),
            1 => {
                let script = fs::File::options()
                    .write(true)
                    .open(server.root().join("site/app.wsgi"));
                script.unwrap().set_modified(SystemTime::now()).unwrap();
            }
            2 => drop(server.wsgictl(&["restart", "site", "--no-wait"])),
            // The process may have ended meanwhile.
            3 => drop(process().map(|pid| {
                let pid = rustix::process::Pid::from_raw(pid).expect("a process");
                rustix::process::kill_process(pid, Signal::USR1)
            })),
            4 => self.kill(process()),
            _ => self.kill(server.children().into_iter().next()),
        }
    }

    fn kill(&self, pid: Option<Pid>) {
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
            return;
        };
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        self.kills.lock().unwrap().push(Instant::now());
    }

    fn wait_for(&self, more: u64) {
        let counts = || self.done.iter().map(|count| count.load(Relaxed));
        let before: Vec<u64> = counts().collect();
        eventually("all clients are answered", || {
            let mut all = counts().zip(&before);
            all.all(|(now, before)| now >= before + more).then_some(())
        });
    }

    /// Ends the test if a request failed that was not under way when something was killed.
    fn expect_no_failures(&self) {
        /// How long the kernel may take to end a process.
        const SOON: Duration = Duration::from_millis(300);
        let kills = self.kills.lock().unwrap();
        let failures = self.failures.lock().unwrap();
        let is_excused = |begun: Instant, ended: Instant| {
            kills
                .iter()
                .any(|kill| begun <= *kill && *kill <= ended + SOON)
        };
        let bad: Vec<_> = failures
            .iter()
            .filter(|(begun, ended, _)| !is_excused(*begun, *ended))
            .map(|(_, _, what)| what)
            .collect();
        let done: Vec<u64> = self.done.iter().map(|count| count.load(Relaxed)).collect();
        let (lost, killed, slowest) = (failures.len(), kills.len(), &self.slowest);
        eprintln!("{done:?} answered within {slowest:?} ms, {lost} lost in {killed} kills");
        assert!(
            bad.is_empty(),
            "{} failed: {:#?}",
            bad.len(),
            &bad[..bad.len().min(10)]
        );
        assert!(failures.len() <= kills.len() * CLIENTS);
    }
}
