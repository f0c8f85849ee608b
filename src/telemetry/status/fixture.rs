//! Segments of invented servers, for tests and for looking at.

use std::sync::atomic::Ordering::Relaxed;

use crate::board::{ChildState, GroupDecision, RetireReason, Roll, RollPhase};
use crate::catalogue::{
    ABORT_PHASE, ANSWERED, CODE, CPU_MODE, EXCEPTION_PHASE, EXIT, INTERPRETER_STATE, Id, METHOD,
    REJECTION, RESULT, TIMEOUT_STAGE, TRIGGER, value,
};
use crate::segment::Arena;
use crate::segment::Owner;
use crate::segment::Role;
use crate::segment::layout::BLOCK_WORDS;
use crate::segment::memory;
use crate::{App, Event, Fact, Geometry, Notable, Phase, Sampler, Scoreboard, Segment, clock};

use super::Status;

pub(crate) const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// A server of three applications, 25 workers in five children.
pub(crate) struct TestServer {
    pub(crate) segment: Segment,
    pub(crate) apps: [App; 3],
    children: Vec<TestChild>,
    sampler: Sampler,
    now: u64,
    unix: u64,
}

struct TestChild {
    pid: u32,
    process: Arena,
    threads: Vec<(u32, Arena)>,
}

pub(crate) fn empty() -> Segment {
    let geometry = Geometry::new(25, 5, 3, 16);
    let cells = memory::anonymous(geometry.words()).expect("memory");
    Segment::create(cells, geometry, std::process::id()).expect("a segment")
}

impl TestServer {
    pub(crate) fn new() -> Self {
        let segment = empty();
        segment.begin_generation(2);
        for (fact, text) in [
            (Fact::Httpd, "Apache/2.4.71 (Debian)"),
            (Fact::Version, "0.1.0"),
            (Fact::Revision, "55eace1"),
            (Fact::Rustc, "rustc 1.95.0"),
            (Fact::Mpm, "event"),
            (Fact::Python, "3.13.5"),
            (Fact::Implementation, "CPython"),
            (Fact::Gil, "enabled"),
        ] {
            segment.set_fact(fact, text);
        }
        segment.set_limits(25, 5, 5, true, true);
        let owner = |pid| Owner {
            pid,
            ticks: 1,
            generation: 2,
        };
        let named = |label: &str, script: &str, group: &str| {
            segment.application_named(label, [label, script, group], owner(1))
        };
        let apps = [
            named("/shop", "/srv/shop/wsgi.py", ""),
            named("/admin", "/srv/admin/wsgi.py", "admin"),
            named("/api/v2", "/srv/api/app.wsgi", "api"),
        ];
        let child = |number: u32| {
            let pid = 4_194_000 + number * 7;
            let arena = |thread, role| {
                let at = segment.claim(owner(pid), thread, role).expect("an arena");
                segment.arena_of(at)
            };
            TestChild {
                pid,
                process: arena(0, Role::Ready),
                threads: (1..=5)
                    .map(|thread| (pid + thread, arena(pid + thread, Role::Thread)))
                    .collect(),
            }
        };
        Self {
            segment,
            apps,
            children: (0..5).map(child).collect(),
            sampler: Sampler::new(),
            now: clock::now(),
            unix: clock::unix(),
        }
    }

    fn any(&self, at: usize) -> Arena {
        self.children[at % 5].threads[at / 5 % 5].1
    }

    /// Finishes `count` requests of about this duration.
    pub(crate) fn requests(&self, app: usize, count: usize, milliseconds: u64, code: &str) {
        for at in 0..count {
            let block = self.any(at).application(self.apps[app]);
            if code != "none" {
                // Durations from 70 to 130 %.
                let spread = milliseconds * MILLISECOND * (70 + (at as u64 * 37) % 61) / 100;
                block.observe(Id::RequestDuration, value(ANSWERED, code), spread);
                block.observe(Id::QueueWait, 0, 20_000 + spread / 1_000);
                block.observe(Id::GilWait, 0, 5_000 + spread / 500);
                block.add(Id::ResponseBody, 0, 4_321);
            }
            let method = value(METHOD, if at % 5 == 0 { "POST" } else { "GET" });
            block.finish_request(method * CODE.values.len() + value(CODE, code));
        }
    }

    pub(crate) fn loaded(&self, app: usize, state: &str) {
        for child in &self.children {
            let block = child.process.application(self.apps[app]);
            block.change(Id::Interpreters, value(INTERPRETER_STATE, state), 1);
            block.interpreter_started(self.unix - 5_000 * SECOND);
            let result = if state == "failed" { "error" } else { "ok" };
            block.add(Id::ApplicationLoads, value(RESULT, result), 1);
        }
    }

    pub(crate) fn sample(&mut self, ago: u64) {
        let (now, unix) = (self.now - ago * SECOND, self.unix - ago * SECOND);
        self.sampler.sample_at(&self.segment, now, unix);
    }

    /// Simulates that the module was reloaded.
    pub(crate) fn restart_sampler(&mut self) {
        self.sampler = Sampler::new();
    }

    /// Zeroes all cells of an application.
    pub(crate) fn clear(&self, app: usize) {
        let app = usize::from(self.apps[app].number());
        let geometry = self.segment.geometry();
        for arena in 0..geometry.arenas {
            let at = geometry.block(arena, app);
            for cell in self.segment.words(at, BLOCK_WORDS) {
                cell.store(0, Relaxed);
            }
        }
    }

    /// Takes samples over ten minutes, with `traffic` before each; it gets the number of the sample.
    pub(crate) fn ten_minutes(&mut self, traffic: impl Fn(&Self, u64)) {
        for number in 0..60 {
            self.sample(600 - number * 10);
            traffic(self, number);
        }
        self.sample(3);
    }

    pub(crate) fn run(&self, at: usize, app: usize, url: &str, phase: Phase, age: f64) {
        let since = self.now - (age * 1e9) as u64;
        let method = value(METHOD, if at % 4 == 3 { "POST" } else { "GET" });
        let group = ["", "admin", "api"][app];
        let arena = self.any(at);
        arena.begin(
            since,
            self.apps[app],
            method,
            url.as_bytes(),
            group.as_bytes(),
        );
        if let Some(cell) = arena.phase_cell() {
            cell.set(phase);
        }
    }

    pub(crate) fn scoreboard(&self, busy: u64) {
        let mut workers = [0; 9];
        (workers[0], workers[3]) = (25 - busy, busy);
        let connections = Some([busy + 12, 12, 0, 0]);
        self.segment.set_scoreboard(&Scoreboard {
            workers,
            connections,
        });
    }

    pub(crate) fn note(&self, why: Notable, status: u16, total_ms: u64, url: &str) {
        let event = Event {
            at: 0,
            why,
            app: self.apps[0],
            method: 0,
            status,
            pid: self.children[1].pid,
            total: total_ms * MILLISECOND,
            application: total_ms * MILLISECOND * 8 / 10,
            gil_wait: total_ms * MILLISECOND / 20,
            input: 0,
            output: total_ms * MILLISECOND / 9,
            url: String::new(),
        };
        self.segment.note(&event, url.as_bytes());
    }

    /// Records a roll that a changed file caused, with all children on the board in these states.
    pub(crate) fn roll(&self, phase: RollPhase, done: u32, problem: &str, states: [ChildState; 5]) {
        let board = self.segment.board();
        let old = board.revision();
        let new = board.raise_revision();
        for (at, (child, state)) in self.children.iter().zip(states).enumerate() {
            let owner = Owner {
                pid: child.pid,
                ticks: 1,
                generation: 2,
            };
            let revision = if at < done as usize { new } else { old };
            let slot = board.enter(owner, revision).expect("a place");
            slot.set_state(state);
        }
        let ended = match phase {
            RollPhase::Done | RollPhase::Stopped => self.unix - 90 * SECOND,
            RollPhase::Idle | RollPhase::Trial | RollPhase::Rolling => 0,
        };
        board.set_roll(&Roll {
            phase,
            revision: new,
            done,
            of: 5,
            tried: 2,
            untried: 0,
            began: self.unix - 93_200 * MILLISECOND,
            ended,
            cause: String::from("/srv/shop/views.py changed"),
            problem: problem.to_owned(),
        });
    }

    /// Marks child number `at` to retire.
    pub(crate) fn retire(&self, at: usize) {
        let told = RetireReason::SourceChanged;
        assert!(self.segment.board().mark(self.children[at].pid, 1, told));
    }

    /// Sets the plan of a group.
    pub(crate) fn planned(&self, group: &str, plan: &str) {
        let group = self.segment.board().group(group.as_bytes()).expect("room");
        group.set_plan(plan);
    }

    /// Records the result of probing a group.
    pub(crate) fn chose(&self, group: &str, choice: GroupDecision, module: &str) {
        let group = self.segment.board().group(group.as_bytes()).expect("room");
        let owner = Owner::of_this_process(2);
        assert!(group.begin_probe(owner) && group.decide(owner, choice, module));
    }

    pub(crate) fn status(&self) -> Status {
        let snapshot = self.segment.snapshot();
        Status::new(&snapshot, &self.segment.history())
    }
}

/// Returns a server that has just been started.
pub(crate) fn fresh() -> TestServer {
    let server = TestServer::new();
    server.scoreboard(0);
    server
}

/// Returns a server on a good day.
pub(crate) fn calm() -> TestServer {
    let mut server = TestServer::new();
    (0..3).for_each(|app| server.loaded(app, "ready"));
    server.ten_minutes(|server, number| {
        server.requests(0, 120 + number as usize, 40 + number % 7 * 3, "2xx");
        server.requests(0, 4, 3, "3xx");
        if number % 3 == 0 {
            server.requests(2, 15, 8, "2xx");
        }
    });
    server.scoreboard(2);
    server.run(3, 0, "/shop/basket", Phase::InApplication, 0.031);
    server.run(9, 2, "/api/v2/items", Phase::Writing, 0.002);
    server
}

/// Returns a server in the middle of the night.
pub(crate) fn trouble() -> TestServer {
    let mut server = TestServer::new();
    server.loaded(0, "ready");
    server.loaded(1, "failed");
    server.loaded(2, "ready");
    server.ten_minutes(|server, number| {
        let slower = 40 + number.saturating_sub(35).pow(2) * 8;
        server.requests(0, 150, slower, "2xx");
        server.requests(2, if number < 50 { 30 } else { 0 }, 9, "2xx");
        if number > 45 {
            server.requests(0, 20, slower * 2, "5xx");
            server.requests(0, 2, 0, "none");
        }
    });
    let block = server.any(2).application(server.apps[0]);
    block.add(Id::Exceptions, value(EXCEPTION_PHASE, "call"), 271);
    block.add(Id::Rejected, value(REJECTION, "queue_full"), 12);
    block.add(Id::Timeouts, value(TIMEOUT_STAGE, "application"), 3);
    block.add(Id::ClientAborts, value(ABORT_PHASE, "write"), 41);
    block.add(Id::SlowRequests, 0, 87);
    block.add(Id::ApplicationReloads, value(TRIGGER, "script_changed"), 2);
    block.add(Id::RequestBody, 0, 123_456_789);
    let process = server.children[0].process;
    process.add(Id::ChildrenCpu, value(CPU_MODE, "user"), 5_432 * SECOND);
    process.add(Id::ChildrenCpu, value(CPU_MODE, "system"), 321 * SECOND);
    server.children[4].process.set_role(Role::Draining);
    let killed = value(EXIT, "killed");
    server.segment.count(Id::ChildrenExited, killed, 3);
    server.segment.count(Id::ChildrenStarted, 0, 9);
    server.scoreboard(25);
    for at in 0..25 {
        let (url, phase, age) = match at {
            0 => ("/shop/report/yearly", Phase::InApplication, 252.0),
            1..=3 => ("/shop/report/monthly", Phase::InApplication, 61.4),
            4 => ("/shop/upload", Phase::Reading, 17.9),
            5 => ("/api/v2/export", Phase::Writing, 9.2),
            _ => ("/shop/basket", Phase::WaitingForGil, 8.0 / at as f64),
        };
        server.run(at, if at == 5 { 2 } else { 0 }, url, phase, age);
    }
    server.note(Notable::Slow, 200, 2_310, "/shop/report/monthly");
    let full = u8::try_from(value(REJECTION, "queue_full")).expect("small");
    for _ in 0..4 {
        server.note(Notable::Rejected(full), 503, 1, "/shop/basket");
    }
    server.note(Notable::TimedOut(0), 504, 60_012, "/shop/report/yearly");
    server
}

/// Returns a server that is rolling out new code.
pub(crate) fn rolling() -> TestServer {
    let server = calm();
    use ChildState::{Draining, NotReady, Ready, Starting};
    let states = [Ready, Starting, Draining, Ready, NotReady];
    server.roll(RollPhase::Rolling, 2, "", states);
    server.retire(3);
    server.chose("", GroupDecision::Own, "");
    server.chose("admin", GroupDecision::Shared, "numpy._core");
    server.planned("admin", "delegate, 3 to 25 of 25 threads inside");
    server.planned("api", "pool of 4 threads");
    server
}

/// Returns a server whose new code was refused.
pub(crate) fn stopped() -> TestServer {
    let server = calm();
    let problem = "the new code does not load: SyntaxError: invalid syntax (views.py, line 3)";
    server.roll(RollPhase::Stopped, 0, problem, [ChildState::Ready; 5]);
    server
}
