//! Real applications: a Django project, Flask, and the httpbin package. They share one interpreter and one server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use flate2::read::{GzDecoder, ZlibDecoder};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use harness::{
    Ending, Mpm, Request, Response, Server, apps, long, mpm_tests, ours_only, rss_kib, venv,
};
use serde_json::{Value, json};

mpm_tests! {
    fn django(mpm) {
        let server = start(mpm);
        let home = server.get("/django/?a=b").expect(200);
        assert_eq!(home.text(), "Hello from Django at /django/?a=b");
        server.get("/django/nowhere").expect(404);

        let mut browser = Browser::new(&server);
        for visits in ["1", "2", "3"] {
            assert_eq!(browser.get("/django/visits").expect(200).text(), visits);
        }

        // A form without its token is refused; with the token it is accepted.
        let token = browser.get("/django/form").expect(200).text();
        browser.post("/django/form", "name=x").expect(403);
        let body = format!("name=caf%C3%A9&csrfmiddlewaretoken={token}");
        assert_eq!(browser.post("/django/form", &body).expect(200).json(), json!({"name": "caf\u{e9}"}));

        let rows = server.get("/django/stream").expect(200);
        assert_eq!(rows.ending, Ending::Chunked);
        assert_eq!(rows.text().lines().count(), 1000);
        assert_eq!(rows.text().lines().last(), Some("row 999"));
        for method in ["POST", "PUT", "DELETE"] {
            let echo = server.send(&Request::new(method, "/django/echo").body("abc")).expect(200);
            assert_eq!(echo.json(), json!([method, "abc", "3"]));
        }
        server.get("/django/fails").expect(500);
        server.expect_log("ValueError: raised in a Django view");
        server.allow_log("Internal Server Error: /|Not Found: /|Forbidden \\(CSRF");
    }

    fn django_upload(mpm) {
        let server = start(mpm);
        let file: Vec<u8> = (0..64_u32 << 20).map(|number| (number ^ (number >> 9)) as u8).collect();
        let mut body = b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"big.bin\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n".to_vec();
        body.extend(&file);
        body.extend(b"\r\n--edge--\r\n");
        let request =
            Request::post("/django/upload", &body).header("Content-Type", "multipart/form-data; boundary=edge");
        let told = server.send(&request).expect(200).json();
        assert_eq!(told, json!({"size": 64 << 20, "name": "big.bin", "sha256": sha256(&file)}));
    }

    /// Mixed load on replicas of both; ten minutes if the tests run for their full length.
    fn in_replicas(mpm) {
        ours_only!("mod_wsgi has no replicas");
        let server = start_with(mpm, "WSGIGILMode own\nWSGIInterpreters 2");
        server.allow_log("WSGI102[34]: application group");
        for url in ["/django/?warm=up", "/flask/hello/you"] {
            server.get(url).expect(200);
        }
        if server.count_log("WSGI1023") > 0 {
            eprintln!("this Python has no interpreters with GILs of their own: left out");
            return;
        }
        let child = server.only_process();
        let time = Duration::from_secs(if long() { 600 } else { 4 });
        let (begun, done) = (Instant::now(), AtomicUsize::new(0));
        let early = std::thread::scope(|scope| {
            for client in 0..6 {
                let (server, done) = (&server, &done);
                scope.spawn(move || {
                    for turn in client.. {
                        if begun.elapsed() >= time {
                            break;
                        }
                        mixed(server, turn);
                        done.fetch_add(1, Relaxed);
                    }
                });
            }
            // Threads, caches and arenas of the allocator are made in the beginning and stay.
            std::thread::sleep(time / 4);
            rss_kib(child)
        });
        let late = rss_kib(child);
        eprintln!("{mpm}: {} requests, {early} KiB after a quarter of the time, {late} KiB at the end", done.into_inner());
        assert_eq!(server.only_process(), child);
        assert!(late < early + early / 10 + 8192, "from {early} to {late} KiB");
    }

    fn django_admin(mpm) {
        let server = start(mpm);
        let mut browser = Browser::new(&server);
        let page = browser.get("/django/admin/login/").expect(200).text();
        let login = format!("username=admin&password=secret&next=/django/admin/&csrfmiddlewaretoken={}", token(&page));
        let response = browser.post("/django/admin/login/", &login).expect(302);
        assert_eq!(response.header("Location"), Some("/django/admin/"));
        assert!(browser.get("/django/admin/").expect(200).text().contains("Notes"));
        let form = browser.get("/django/admin/notes/note/add/").expect(200).text();
        let note = format!("text=written+under+{mpm}&csrfmiddlewaretoken={}", token(&form));
        browser.post("/django/admin/notes/note/add/", &note).expect(302);
        let list = browser.get("/django/admin/notes/note/").expect(200).text();
        assert!(list.contains(&format!("written under {mpm}")), "{list}");
    }

    fn flask(mpm) {
        let server = start(mpm);
        assert_eq!(server.get("/flask/hello/w%C3%B6rld").expect(200).text(), "Hello w\u{f6}rld!");
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let request = Request::new(method, "/flask/json?a=1")
                .header("Content-Type", "application/json")
                .body("{\"key\": [1, 2]}");
            let told = server.send(&request).expect(200).json();
            assert_eq!(told["method"], method);
            assert_eq!((&told["args"], &told["json"]), (&json!({"a": "1"}), &json!({"key": [1, 2]})));
            assert_eq!(told["url"], "http://localhost/flask/json?a=1");
        }
        let form = "--edge\r\nContent-Disposition: form-data; name=\"field\"\r\n\r\nvalue\r\n--edge\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n12345\r\n--edge--\r\n";
        let request = Request::post("/flask/form", form).header("Content-Type", "multipart/form-data; boundary=edge");
        assert_eq!(server.send(&request).expect(200).json(), json!({"form": {"field": "value"}, "files": {"file": 5}}));
        let mut browser = Browser::new(&server);
        for visits in ["1", "2", "3"] {
            assert_eq!(browser.get("/flask/visits").expect(200).text(), visits);
        }
        assert_eq!(server.get("/flask/stream").expect(200).text().lines().count(), 100);
        server.get("/flask/teapot").expect(418);
        server.get("/flask/nowhere").expect(404);
        server.send(&Request::post("/flask/stream", "")).expect(405);
    }

    fn httpbin(mpm) {
        let server = start(mpm);
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let target = format!("/httpbin/{}?q=1", method.to_lowercase());
            let request = Request::new(method, &target)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body("a=1&b=two");
            let told = server.send(&request).expect(200).json();
            assert_eq!((&told["form"], &told["args"]), (&json!({"a": "1", "b": "two"}), &json!({"q": "1"})), "{method}");
        }
        assert_eq!(server.get("/httpbin/get?q=1").expect(200).json()["args"]["q"], "1");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"] {
            if method != "TRACE" {
                let told = server.send(&Request::new(method, "/httpbin/anything/x")).expect(200).json();
                assert_eq!(told["method"], method);
            }
        }
        let head = server.send(&Request::new("HEAD", "/httpbin/get")).expect(200);
        assert!(head.body.is_empty() && head.header("Content-Length").is_some());
        let allowed = server.send(&Request::new("OPTIONS", "/httpbin/get")).expect(200);
        assert!(allowed.header("Allow").unwrap().contains("HEAD"));
        let told = server.send(&Request::get("/httpbin/headers").header("X-Mine", "yes")).expect(200).json();
        assert_eq!(told["headers"]["X-Mine"], "yes");

        let packed = server.get("/httpbin/gzip").expect(200).body;
        let told: Value = serde_json::from_reader(GzDecoder::new(&packed[..])).unwrap();
        assert_eq!(told["gzipped"], true);
        let packed = server.get("/httpbin/deflate").expect(200).body;
        let told: Value = serde_json::from_reader(ZlibDecoder::new(&packed[..])).unwrap();
        assert_eq!(told["deflated"], true);

        for first in ["/httpbin/redirect/3", "/httpbin/relative-redirect/3", "/httpbin/absolute-redirect/3"] {
            let mut target = first.to_owned();
            for _ in 0..3 {
                let response = server.get(&target).expect(302);
                let location = response.header("Location").unwrap();
                target = location.strip_prefix("http://localhost").unwrap_or(location).to_owned();
            }
            assert_eq!(target, "/httpbin/get", "{first}");
        }
        let mut browser = Browser::new(&server);
        browser.get("/httpbin/cookies/set?one=1&two=2").expect(302);
        assert_eq!(browser.get("/httpbin/cookies").expect(200).json()["cookies"], json!({"one": "1", "two": "2"}));

        server.get("/httpbin/basic-auth/user/passwd").expect(401);
        let request = Request::get("/httpbin/basic-auth/user/passwd").header("Authorization", "Basic dXNlcjpwYXNzd2Q=");
        assert_eq!(server.send(&request).expect(200).json(), json!({"authenticated": true, "user": "user"}));
        for status in [200, 201, 404, 418, 500, 503] {
            server.get(&format!("/httpbin/status/{status}")).expect(status);
        }
        let bytes = server.get("/httpbin/stream-bytes/20000?seed=7&chunk_size=1000").expect(200);
        assert_eq!((bytes.ending, bytes.body.len()), (Ending::Chunked, 20_000));
        assert_eq!(bytes.body, server.get("/httpbin/stream-bytes/20000?seed=7").expect(200).body);
        assert_eq!(server.get("/httpbin/stream/20").expect(200).text().lines().count(), 20);
        assert_eq!(server.get("/httpbin/drip?numbytes=5&duration=0.5").expect(200).text(), "*****");
        let image = server.get("/httpbin/image/png").expect(200);
        assert_eq!(image.header("Content-Type"), Some("image/png"));
        assert!(image.body == fs::read(pig()).unwrap(), "the image is byte for byte the package's file");
        server.get("/httpbin/etag/abc").expect(200);
        server.send(&Request::get("/httpbin/etag/abc").header("If-None-Match", "\"abc\"")).expect(304);
        let part = server.send(&Request::get("/httpbin/range/100").header("Range", "bytes=10-19")).expect(206);
        assert_eq!(part.body.len(), 10);
    }
}

/// Sends one request of a mixed load.
fn mixed(server: &Server, turn: usize) {
    let get = |url: &str| server.get(url).expect(200);
    match turn % 6 {
        0 => assert!(get("/django/?a=b").text().starts_with("Hello from Django")),
        1 => assert_eq!(get("/django/stream").text().lines().count(), 1000),
        2 => {
            let echo = server
                .send(&Request::post("/django/echo", "abc"))
                .expect(200);
            assert_eq!(echo.json(), json!(["POST", "abc", "3"]));
        }
        3 => assert!(
            get("/django/admin/login/")
                .text()
                .contains("csrfmiddlewaretoken")
        ),
        4 => assert_eq!(get("/flask/hello/you").text(), "Hello you!"),
        _ => assert_eq!(get("/flask/json?x=1").json()["args"], json!({"x": "1"})),
    }
}

fn start(mpm: Mpm) -> Server {
    start_with(
        mpm,
        "WSGIScriptAlias /httpbin ${APPS}/httpbin_app.wsgi
        WSGIApplicationGroup %{GLOBAL}",
    )
}

fn start_with(mpm: Mpm, conf: &str) -> Server {
    let home = venv();
    Server::builder(mpm)
        .python_home(home)
        .writable_folder("data")
        .conf(
            "WSGIScriptAlias /django ${APPS}/django_project/app.wsgi
            WSGIScriptAlias /flask ${APPS}/flask_app.wsgi
            WSGIPassAuthorization On
            WSGIDontWriteBytecode On
            SetEnv test.database ${ROOT}/data/db.sqlite3",
        )
        .conf(conf)
        .one_child()
        .start_with(|root| {
            let copy = root.join("data/db.sqlite3");
            fs::copy(database(), &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o666)).unwrap();
        })
}

/// Returns the folder with the database, its tables and its superuser; made once.
fn database() -> &'static Path {
    static DATABASE: OnceLock<PathBuf> = OnceLock::new();
    DATABASE.get_or_init(|| {
        let path = apps().join("db.sqlite3");
        let manage = |arguments: &[&str]| {
            let output = Command::new(venv().join("bin/python"))
                .arg("-B")
                .arg(apps().join("django_project/manage.py"))
                .args(arguments)
                .env("TEST_DATABASE", &path)
                .env("DJANGO_SUPERUSER_PASSWORD", "secret")
                .output()
                .expect("the virtual environment's Python runs");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        manage(&["migrate", "--verbosity", "0"]);
        manage(&[
            "createsuperuser",
            "--noinput",
            "--username",
            "admin",
            "--email",
            "admin@wsgi.test",
        ]);
        path
    })
}

fn pig() -> PathBuf {
    let find = "import httpbin, os; print(os.path.join(os.path.dirname(httpbin.__file__), 'templates/images/pig_icon.png'))";
    let output = Command::new(venv().join("bin/python"))
        .args(["-c", find])
        .output()
        .unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn sha256(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, bytes).unwrap();
    let output = Command::new("sha256sum").arg(&file).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned()
}

fn token(page: &str) -> &str {
    let start = page
        .find("name=\"csrfmiddlewaretoken\" value=\"")
        .expect("the page has a form")
        + 34;
    page[start..].split('"').next().unwrap()
}

/// A client that keeps cookies.
struct Browser<'a> {
    server: &'a Server,
    cookies: Vec<(String, String)>,
}

impl<'a> Browser<'a> {
    fn new(server: &'a Server) -> Self {
        Browser {
            server,
            cookies: Vec::new(),
        }
    }

    fn get(&mut self, target: &str) -> Response {
        self.send(Request::get(target))
    }

    fn post(&mut self, target: &str, form: &str) -> Response {
        self.send(
            Request::post(target, form).header("Content-Type", "application/x-www-form-urlencoded"),
        )
    }

    fn send(&mut self, mut request: Request) -> Response {
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header("Cookie", pairs.join("; "));
        }
        let response = self.server.send(&request);
        for cookie in response.head.all("Set-Cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(kept, _)| kept != name);
            self.cookies.push((name.into(), value.into()));
        }
        response
    }
}
