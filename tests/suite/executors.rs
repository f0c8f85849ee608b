//! The choice of the thread that runs Python makes no difference to responses: for single requests, and for many at
//! once, whose data must not mix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use harness::{
    ClientError, Connection, Gate, Mpm, Request, Response, Server, eventually, long, mpm_tests,
    ours, ours_only,
};

mpm_tests! {
    fn one_after_the_other(mpm) {
        for executor in executors(mpm) {
            let server = start(mpm, executor);
            for (number, &way) in WAYS.iter().enumerate() {
                for size in [1, 100, 70_000] {
                    let token = format!("t{number}-{size}");
                    if let Err(why) = way.ask(&mut server.connect(), &token, size) {
                        panic!("{executor}: {way:?} {token}: {why}");
                    }
                }
            }
            allow_log(&server);
        }
    }

    fn all_at_once(mpm) {
        for executor in executors(mpm) {
            let server = start(mpm, executor);
            let child = server.children();
            let rounds = if long() { 1000 } else { 70 };
            let failures = Mutex::new(Vec::new());
            thread::scope(|scope| {
                for client in 0..CLIENTS {
                    let (server, failures) = (&server, &failures);
                    scope.spawn(move || {
                        if let Err(why) = load(server, client, rounds) {
                            failures.lock().unwrap().push(why);
                        }
                    });
                }
            });
            let failures = failures.into_inner().unwrap();
            assert!(failures.is_empty(), "{executor}: {failures:#?}");
            assert!(child.iter().all(|child| server.children().contains(child)), "{executor}: a child has gone");
            allow_log(&server);
            each_line_is_in_the_log_of_its_request(&server);
        }
    }

    fn one_that_computes_for_long_does_not_keep_the_others_out(mpm) {
        if !mpm.threaded() {
            return;
        }
        let gate = Gate::new();
        let server = Server::builder(mpm)
            .pool(1, 8)
            .one_child()
            .conf(&gate.directive())
            .app("/app", "gate.wsgi")
            .start();
        server.get("/app/now/load").expect(200);
        let mut client = server.ask("/app/compute/long");
        let long = gate.next();
        for _ in 0..20 {
            assert_eq!(server.get("/app/now/short").expect(200).text(), "short");
        }
        long.release();
        assert_eq!(client.read_response("GET").unwrap().expect(200).text(), "long");
    }

    fn threads_are_numbered_by_whose_request_it_is(mpm) {
        ours_only!("mod_wsgi has one executor");
        if !mpm.threaded() {
            return;
        }
        for executor in ["WSGIExecutor direct", "WSGIExecutor delegate min=4", "WSGIThreadPool size=4"] {
            let gate = Gate::new();
            let server = Server::builder(mpm)
                .one_child()
                .conf(&gate.directive())
                .conf(executor)
                .app("/gate", "gate.wsgi")
                .start();
            let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
            for client in &mut clients {
                client.send(Request::get("/gate/wait-number/x").to_bytes());
            }
            let visitors: Vec<_> = clients.iter().map(|_| gate.next()).collect();
            let numbers: BTreeSet<_> = visitors.iter().map(|visitor| visitor.name().to_owned()).collect();
            assert_eq!(numbers.len(), 4, "{executor}: {numbers:?}");
            drop(visitors);
            for client in &mut clients {
                client.read_response("GET").unwrap().expect(200);
            }
        }
    }

    fn a_pool_has_no_more_threads_than_it_may(mpm) {
        ours_only!("mod_wsgi has one executor");
        if !mpm.threaded() {
            return;
        }
        let server = Server::builder(mpm)
            .pool(1, 24)
            .one_child()
            .conf("WSGIThreadPool size=2")
            .app("/app", "mixed.wsgi")
            .start();
        let told = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut connection = server.connect();
                    for _ in 0..50 {
                        let request = Request::get("/app/threads/t/0?token=t").keep_alive();
                        let answer = connection.exchange(&request).unwrap().expect(200).text();
                        let (threads, number) = answer.split_once(' ').expect("two numbers");
                        let numbers: (u32, u32) = (threads.parse().unwrap(), number.parse().unwrap());
                        told.lock().unwrap().push(numbers);
                    }
                });
            }
        });
        let told = told.into_inner().unwrap();
        let threads = told.iter().map(|(threads, _)| threads).max();
        assert!(threads <= Some(&2), "{threads:?} threads");
        let owners: BTreeSet<_> = told.iter().map(|(_, number)| number).collect();
        assert!(owners.len() > 2, "{owners:?}");
    }
}

const CLIENTS: usize = 16;

/// Returns the executors that differ under an MPM.
fn executors(mpm: Mpm) -> &'static [&'static str] {
    if !ours() {
        &[""]
    } else if mpm.threaded() {
        &[
            "WSGIExecutor auto",
            "WSGIExecutor direct",
            "WSGIExecutor delegate",
            "WSGIExecutor delegate max=1",
            "WSGIThreadPool size=1",
            "WSGIThreadPool size=3",
        ]
    } else {
        &["WSGIExecutor auto", "WSGIThreadPool size=3"]
    }
}

fn start(mpm: Mpm, executor: &str) -> Server {
    Server::builder(mpm)
        // Event closes idle connections if no thread is idle. A client that connects again may still hold the thread of
        // its last connection, and a thread that has left a connection is not idle at once. So there are three threads
        // for each client.
        .pool(1, if mpm.threaded() { 3 * CLIENTS } else { 8 })
        .modules(&["include", "filter"])
        .app("/app", "mixed.wsgi")
        .conf(executor)
        .conf(
            "WSGIChunkedRequest On
            <Location /app/including>
                Options +Includes
                SetOutputFilter INCLUDES
            </Location>
            <Location /app/refused>
                ErrorDocument 400 /app/page/page/0
            </Location>",
        )
        .start()
}

/// A way to send a request and get a response; a token and a size determine the request and the expected response.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    List,
    Head,
    Generator,
    Write,
    File,
    Disk,
    Post,
    LatePost,
    Chunked,
    Lines,
    Said,
    Including,
    Refused,
}

const WAYS: [Way; 13] = [
    Way::List,
    Way::Head,
    Way::Generator,
    Way::Write,
    Way::File,
    Way::Disk,
    Way::Post,
    Way::LatePost,
    Way::Chunked,
    Way::Lines,
    Way::Said,
    Way::Including,
    Way::Refused,
];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::List | Way::Head => "list",
            Way::Generator => "generator",
            Way::Write => "write",
            Way::File => "file",
            Way::Disk => "disk",
            Way::Post | Way::LatePost | Way::Chunked => "echo",
            Way::Lines => "lines",
            Way::Said => "said",
            Way::Including => "including",
            Way::Refused => "refused",
        }
    }

    /// Sends the request, and compares the response with the expected one. Returns whether the connection is open for
    /// another request.
    fn ask(self, connection: &mut Connection, token: &str, size: usize) -> Result<bool, String> {
        let size = if self == Way::Disk { size % 500 } else { size };
        let answer = self.exchange(connection, token, size);
        let answer = answer.map_err(|error| error.to_string())?;
        let (status, by, body) = self.expected(token, size);
        let is_there = answer.status() == status
            && answer.header("X-Token") == Some(by)
            && answer.is_complete();
        if !is_there {
            return Err(format!(
                "{:?} {:?} {:.200}",
                answer.head,
                answer.ending,
                answer.text()
            ));
        }
        if answer.body != body {
            let at = answer
                .body
                .iter()
                .zip(&body)
                .position(|(one, other)| one != other);
            return Err(format!(
                "{} bytes and not {}, the first other one at {at:?}",
                answer.body.len(),
                body.len()
            ));
        }
        Ok(answer.header("Connection") != Some("close"))
    }

    fn exchange(
        self,
        connection: &mut Connection,
        token: &str,
        size: usize,
    ) -> Result<Response, ClientError> {
        let method = match self {
            Way::Head => "HEAD",
            Way::Post | Way::LatePost | Way::Chunked | Way::Lines | Way::Refused => "POST",
            _ => "GET",
        };
        let target = format!("/app/{}/{token}/{size}?token={token}", self.name());
        let request = Request::new(method, &target).keep_alive();
        let body = stuff(token, size);
        match self {
            Way::Post | Way::Lines => connection.exchange(&request.body(&body)),
            Way::LatePost => {
                // The request is sent in three parts; the later ones come when it has long begun.
                let bytes = request.body(&body).to_bytes();
                let head = bytes.len() - body.len();
                for part in [
                    &bytes[..head],
                    &bytes[head..head + size / 2],
                    &bytes[head + size / 2..],
                ] {
                    connection.try_send(part)?;
                    thread::sleep(Duration::from_millis(3));
                }
                connection.read_response(method)
            }
            Way::Chunked => {
                let (one, other) = body.split_at(size / 3);
                let chunks: Vec<&[u8]> = [one, other]
                    .into_iter()
                    .filter(|chunk| !chunk.is_empty())
                    .collect();
                connection.exchange(&request.chunked(&chunks))
            }
            Way::Refused => {
                let head = request.header("Transfer-Encoding", "chunked").head_bytes();
                connection.try_send(head)?;
                connection.try_send("5\r\nhello\r\nZZ\r\n")?;
                connection.read_response(method)
            }
            _ => connection.exchange(&request),
        }
    }

    /// Returns the status, the token that the response names, and its body.
    fn expected(self, token: &str, size: usize) -> (u16, &str, Vec<u8>) {
        let of_token = stuff(token, size);
        match self {
            Way::Head => (200, token, Vec::new()),
            Way::Disk => {
                let file = std::fs::read(harness::apps().join("mixed.wsgi")).unwrap();
                (200, token, file[size..].to_vec())
            }
            Way::Including => {
                let part = stuff(&format!("{token}-part"), size);
                (200, token, [&of_token[..], &part, &of_token].concat())
            }
            Way::Refused => (400, "page", of_token),
            _ => (200, token, of_token),
        }
    }
}

/// Makes the same bytes as the application.
fn stuff(token: &str, size: usize) -> Vec<u8> {
    let width = token.len() + 8;
    let mut all = String::new();
    for at in 0..=size / width {
        all.push_str(&format!("{token}{at:07};"));
    }
    all.truncate(size);
    all.into_bytes()
}

/// Runs one client, which sends requests in all ways, each time with another size.
fn load(server: &Server, client: usize, rounds: usize) -> Result<(), String> {
    const SIZES: [usize; 9] = [1, 30, 1000, 4000, 9000, 65_536, 65_537, 120_000, 300_000];
    let mut connection = server.connect();
    for round in 0..rounds {
        let way = WAYS[(client * 5 + round) % WAYS.len()];
        // Large sizes are rarer.
        let size = SIZES[(client + round * 7) % SIZES.len()] / [1, 20, 3][round % 3] + 1;
        let token = format!("c{client}r{round}");
        let asked = way.ask(&mut connection, &token, size);
        if !asked.map_err(|why| format!("{way:?} {token} of {size}: {why}"))? {
            connection = server.connect();
        }
    }
    Ok(())
}

/// The messages that these requests cause.
fn allow_log(server: &Server) {
    server.allow_log(r" (in errors|on stdout|on stderr)$");
    server.allow_log("^AH|OSError|exception raised processing WSGI script|request data read error");
}

/// Each request logged three lines, which are in its own log, and no other lines are.
fn each_line_is_in_the_log_of_its_request(server: &Server) {
    let lines = || {
        let mut by_request: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for record in server.records() {
            let mut words = record.message.rsplit(' ');
            let (Some(stream), Some("in" | "on"), Some(token)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if matches!(stream, "errors" | "stdout" | "stderr") {
                let tokens = by_request.entry(record.request).or_default();
                *tokens.entry(token.to_owned()).or_default() += 1;
            }
        }
        by_request
    };
    let is_whole = |lines: &BTreeMap<String, BTreeMap<String, usize>>| {
        lines
            .values()
            .all(|tokens| tokens.values().sum::<usize>() >= 3)
    };
    let lines = eventually("all is said", || Some(lines()).filter(is_whole));
    assert!(!lines.is_empty());
    let mut seen = BTreeSet::new();
    for (request, tokens) in lines {
        assert!(
            request != "-" && tokens.len() == 1,
            "request {request}: {tokens:?}"
        );
        for (token, count) in tokens {
            assert!(
                count == 3 && seen.insert(token.clone()),
                "{token}: {count} lines in request {request}"
            );
        }
    }
}
