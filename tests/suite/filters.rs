//! The module above and below the filters of httpd and of its distribution's modules: what they give is what the
//! application is told, what they make of its response is what the client gets, and no child dies of it.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use harness::{
    Builder, Ending, Gate, Mpm, Request, Server, has_module, http2_exchange, mpm_tests, ours_only,
};
use serde_json::Value;

/// What one filter, or some together, are to do. Each row has a location of its own, `/row/NAME`.
struct Row {
    name: &'static str,
    modules: &'static [&'static str],
    /// Of the server.
    server: &'static str,
    /// Of the location.
    conf: &'static str,
    input: Input,
    output: Output,
}

/// What becomes of a body on its way in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Nothing.
    Same,
    /// It is sent compressed, and the application reads it plain.
    Inflated,
}

/// What becomes of a response of the application.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Same,
    Gzip,
    Brotli,
    /// `line` becomes `LINE`.
    Upper,
    /// The element of mod_include is gone.
    Included,
    /// A file takes the place of the body.
    Sent,
}

const fn input(name: &'static str, modules: &'static [&'static str], conf: &'static str) -> Row {
    output(name, modules, conf, Output::Same)
}

const fn output(
    name: &'static str,
    modules: &'static [&'static str],
    conf: &'static str,
    output: Output,
) -> Row {
    Row {
        name,
        modules,
        server: "",
        conf,
        input: Input::Same,
        output,
    }
}

const SECURITY: &str = "SecRuleEngine On
    SecRequestBodyAccess On
    SecResponseBodyAccess On
    SecRule REQUEST_BODY \"@contains attack\" \"id:1,phase:2,t:none,deny,status:403\"";

const ROWS: &[Row] = &[
    input("none", &[], ""),
    Row {
        server: "RequestReadTimeout header=20 body=20",
        ..input("reqtimeout", &["reqtimeout"], "")
    },
    input("kept", &["request"], "KeptBodySize 100000"),
    input(
        "buffer",
        &["buffer"],
        "SetInputFilter BUFFER\nSetOutputFilter BUFFER\nBufferSize 100000",
    ),
    input(
        "kept-buffer",
        &["request", "buffer"],
        "KeptBodySize 100000\nSetInputFilter BUFFER",
    ),
    Row {
        input: Input::Inflated,
        ..input("inflate", &["deflate"], "SetInputFilter DEFLATE")
    },
    Row {
        input: Input::Inflated,
        ..input(
            "kept-inflate",
            &["deflate", "request"],
            "KeptBodySize 100000\nSetInputFilter DEFLATE",
        )
    },
    input(
        "sed-in",
        &["sed"],
        "SetInputFilter Sed\nInputSed \"s/never/ever/\"",
    ),
    Row {
        server: "ExtFilterDefine pass-in mode=input cmd=/bin/cat",
        ..input("ext-in", &["ext_filter"], "SetInputFilter pass-in")
    },
    Row {
        server: "SecTmpDir ${ROOT}/security\nSecDataDir ${ROOT}/security\nSecAuditEngine Off",
        ..input("security", &["unique_id", "security2"], SECURITY)
    },
    output(
        "deflate",
        &["deflate"],
        "SetOutputFilter DEFLATE",
        Output::Gzip,
    ),
    output(
        "brotli",
        &["brotli"],
        "SetOutputFilter BROTLI_COMPRESS",
        Output::Brotli,
    ),
    output(
        "ratelimit",
        &["ratelimit"],
        "SetOutputFilter RATE_LIMIT\nSetEnv rate-limit 1000",
        Output::Same,
    ),
    output(
        "substitute",
        &["substitute"],
        "SetOutputFilter SUBSTITUTE\nSubstitute s/line/LINE/",
        Output::Upper,
    ),
    output(
        "sed",
        &["sed"],
        "SetOutputFilter Sed\nOutputSed \"s/line/LINE/\"",
        Output::Upper,
    ),
    Row {
        server: "ExtFilterDefine upper mode=output cmd=\"/bin/sed s/line/LINE/\"",
        ..output(
            "ext",
            &["ext_filter"],
            "SetOutputFilter upper",
            Output::Upper,
        )
    },
    output(
        "include",
        &["include"],
        "Options +Includes\nSetOutputFilter INCLUDES",
        Output::Included,
    ),
    output(
        "sendfile",
        &["xsendfile"],
        "XSendFile On\nXSendFilePath ${ROOT}/sent\nSetEnv test.sendfile ${ROOT}/sent/file.txt",
        Output::Sent,
    ),
    Row {
        server: "CacheRoot ${ROOT}/cache\nCacheEnable disk /row/cache/",
        ..output(
            "cache",
            &["cache", "cache_disk"],
            "SetEnv test.cache max-age=600",
            Output::Same,
        )
    },
    output(
        "all",
        &["include", "substitute", "deflate", "ratelimit"],
        "Options +Includes\nSetOutputFilter INCLUDES;SUBSTITUTE;DEFLATE;RATE_LIMIT\nSetEnv rate-limit 1000",
        Output::Gzip,
    ),
];

/// What mod_xsendfile is to send.
const SENT: &[u8] =
    b"the contents of a file that lies elsewhere: 0123456789 0123456789 0123456789\n";

/// The rows whose modules are there; says which are not.
fn rows() -> Vec<&'static Row> {
    let is_there = |row: &&Row| {
        let missing = row.modules.iter().find(|name| !has_module(name));
        if let Some(name) = missing {
            // Not `eprintln!`, which the test runner swallows: a skipped row must be seen.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: row {} of the filter matrix: no mod_{name} here",
                row.name
            );
        }
        missing.is_none()
    };
    ROWS.iter().filter(is_there).collect()
}

/// One server with a location for each row.
fn builder(mpm: Mpm, rows: &[&Row]) -> Builder {
    let mut modules = Vec::new();
    let mut conf = String::from(
        "WSGIApplicationGroup %{GLOBAL}\nWSGIChunkedRequest On\nLogLevel reqtimeout:error\n",
    );
    for row in rows {
        for name in row.modules {
            if !modules.contains(name) {
                modules.push(*name);
            }
        }
        conf.push_str(&format!(
            "{}\nWSGIScriptAlias /row/{name} ${{APPS}}/filters.wsgi\n<Location /row/{name}/>\n{}\n</Location>\n",
            row.server,
            row.conf,
            name = row.name,
        ));
    }
    let mut builder = Server::builder(mpm);
    if mpm.threaded() && has_module("http2") {
        modules.push("http2");
        conf.push_str("Protocols h2c http/1.1\n");
    }
    builder = builder.one_child().modules(&modules).conf(&conf);
    builder
        .file("sent/file.txt", SENT)
        .writable_folder("cache")
        .writable_folder("security")
}

/// A body of lines, as a form's.
fn body() -> Vec<u8> {
    let lines = (0..1000).map(|n| format!("k{n}=value+of+{n}&\n"));
    lines.collect::<String>().into_bytes()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(data).unwrap();
    packed.finish().unwrap()
}

/// What the application gives in the forms `list` and `stream`.
fn given() -> String {
    let lines = (0..60).map(|n| format!("line {n} of the text\n"));
    format!(
        "<!--#set var=\"x\" value=\"y\" -->{}",
        lines.collect::<String>()
    )
}

/// What the client is to get of that.
fn expected(row: &Row) -> String {
    let given = given();
    match row.output {
        Output::Same | Output::Brotli => given,
        Output::Gzip if row.name == "all" => given[given.find("line").unwrap()..].into(),
        Output::Gzip => given,
        Output::Upper => given.replace("line", "LINE"),
        Output::Included => given[given.find("line").unwrap()..].into(),
        Output::Sent => String::from_utf8_lossy(SENT).into_owned(),
    }
}

/// The body of a response as a client would show it.
fn shown(row: &Row, body: &[u8]) -> String {
    let mut text = Vec::new();
    match row.output {
        Output::Gzip => {
            MultiGzDecoder::new(body).read_to_end(&mut text).unwrap();
        }
        _ => text.extend(body),
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[track_caller]
fn check_body(row: &Row, way: &str, answer: &[u8]) {
    let plain = body();
    let said: Value = serde_json::from_slice(answer).unwrap_or_else(|error| {
        panic!(
            "{}, {way}: {error} in {:?}",
            row.name,
            String::from_utf8_lossy(answer)
        )
    });
    assert_eq!(said["size"], plain.len(), "{}, {way}", row.name);
    // Of a body that a filter changes, what the client said is nothing to go by.
    let told = said["told"].as_str();
    assert!(
        told.is_none() || told == Some(&plain.len().to_string()),
        "{}, {way}: {told:?}",
        row.name
    );
}

/// The part of a response that was asked for, or all of it.
#[track_caller]
fn check_range(row: &Row, way: &str, status: u16, part: &[u8], whole: &[u8]) {
    match status {
        206 => assert_eq!(part, &whole[10..20], "{}, {way}", row.name),
        200 => assert_eq!(part, whole, "{}, {way}", row.name),
        status => panic!("{}, {way}: {status}", row.name),
    }
}

fn accepts(row: &Row) -> &'static str {
    match row.output {
        Output::Brotli => "br",
        Output::Gzip => "gzip",
        _ => "identity",
    }
}

/// A body in all its forms, over HTTP/1.1 and HTTP/2.
fn check_input(server: &Server, row: &Row) {
    let url = format!("/row/{}/body", row.name);
    let plain = body();
    let (sent, encoding) = match row.input {
        Input::Same => (plain.clone(), "identity"),
        Input::Inflated => (gzip(&plain), "gzip"),
    };
    let kind = "application/x-www-form-urlencoded";
    let head = Request::post(&url, &sent)
        .header("Content-Encoding", encoding)
        .header("Content-Type", kind);
    check_body(row, "at once", &server.send(&head).expect(200).body);
    let halves = sent.split_at(sent.len() / 2);
    for (way, first) in [
        ("late", 0),
        ("a byte early", 1),
        ("half early", sent.len() / 2),
    ] {
        let mut connection = server.connect();
        connection.send([&head.head_bytes(), &sent[..first]].concat());
        thread::sleep(Duration::from_millis(100));
        connection.send(&sent[first..]);
        check_body(
            row,
            way,
            &connection.read_response("POST").unwrap().expect(200).body,
        );
    }
    let chunked = Request::new("POST", &url)
        .header("Content-Encoding", encoding)
        .header("Content-Type", kind)
        .chunked(&[halves.0, halves.1]);
    check_body(row, "chunked", &server.send(&chunked).expect(200).body);
    let mut connection = server.connect();
    let bytes = chunked.to_bytes();
    let (now, later) = bytes.split_at(bytes.len() / 2);
    connection.send(now);
    thread::sleep(Duration::from_millis(100));
    connection.send(later);
    check_body(
        row,
        "chunked, half late",
        &connection.read_response("POST").unwrap().expect(200).body,
    );
    if !has_http2(server) {
        return;
    }
    let length = sent.len().to_string();
    let pieces: Vec<&[u8]> = sent.chunks(9000).collect();
    for pause in [Duration::ZERO, Duration::from_millis(50)] {
        for length in [Some(length.as_str()), None] {
            let mut fields = vec![("content-encoding", encoding), ("content-type", kind)];
            fields.extend(length.map(|length| ("content-length", length)));
            let answer = http2_exchange(server.address(), "POST", &url, &fields, &pieces, pause);
            let way = format!("HTTP/2, {pause:?} between, length {length:?}");
            assert_eq!(
                (answer.status, answer.is_complete),
                (200, true),
                "{}, {way}: {answer:?}",
                row.name
            );
            check_body(row, &way, &answer.body);
            let said: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(said["framing"], Value::Null, "{}, {way}", row.name);
        }
    }
}

fn has_http2(server: &Server) -> bool {
    server.mpm().threaded() && has_module("http2")
}

/// A response in all its forms, over HTTP/1.1 and HTTP/2.
fn check_output(server: &Server, row: &Row) {
    let request = |method: &str, form: &str| {
        let request = Request::new(method, &format!("/row/{}/{form}", row.name));
        request.header("Accept-Encoding", accepts(row))
    };
    for form in ["list", "stream"] {
        let url = format!("/row/{}/{form}", row.name);
        let part = server.send(&request("GET", form).header("Range", "bytes=10-19"));
        let whole = server.send(&request("GET", form)).expect(200);
        assert!(whole.is_complete(), "{}, {form}: {whole:?}", row.name);
        if row.output == Output::Brotli {
            assert_eq!(whole.header("Content-Encoding"), Some("br"), "{form}");
            assert_eq!(
                decompressed_by_curl(server, &url),
                expected(row),
                "{}, {form}",
                row.name
            );
        } else {
            assert_eq!(
                shown(row, &whole.body),
                expected(row),
                "{}, {form}",
                row.name
            );
        }
        // What is compressed may differ by the time at which it is flushed.
        let is_stable =
            form == "list" || row.output != Output::Gzip && row.output != Output::Brotli;
        assert!(part.is_complete());
        if is_stable {
            check_range(row, form, part.status(), &part.body, &whole.body);
        }
        // What comes in one piece, with its end, is cut as a file would be. These filters make several pieces of it,
        // of a file, too; mod_cache asks for all of what it has not got yet.
        let cuts = [
            "substitute",
            "sed",
            "ext",
            "include",
            "all",
            "security",
            "cache",
        ]
        .contains(&row.name);
        let is_one = form == "list" && !cuts;
        if is_one || row.output == Output::Sent {
            assert_eq!(part.status(), 206, "{}, {form}", row.name);
        }
        let posted = server
            .send(
                &request("POST", form)
                    .header("Range", "bytes=10-19")
                    .body(""),
            )
            .expect(200);
        assert_eq!(posted.header("Content-Range"), None, "{}, {form}", row.name);
        let mut connection = server.connect();
        for _ in 0..2 {
            let head = connection
                .exchange(&request("HEAD", form).keep_alive())
                .unwrap()
                .expect(200);
            assert_eq!(
                (head.ending, head.body.len()),
                (Ending::NoBody, 0),
                "{}, {form}",
                row.name
            );
        }
        if has_http2(server) {
            let ask = |fields: &[(&str, &str)]| {
                let fields = [&[("accept-encoding", accepts(row))], fields].concat();
                http2_exchange(server.address(), "GET", &url, &fields, &[], Duration::ZERO)
            };
            let answer = ask(&[]);
            assert_eq!(
                (answer.status, answer.is_complete),
                (200, true),
                "{}, {form}: {answer:?}",
                row.name
            );
            if row.output != Output::Brotli {
                assert_eq!(
                    shown(row, &answer.body),
                    expected(row),
                    "{}, {form}",
                    row.name
                );
            }
            let part = ask(&[("range", "bytes=10-19")]);
            assert!(part.is_complete);
            if is_stable {
                check_range(
                    row,
                    &format!("HTTP/2, {form}"),
                    part.status,
                    &part.body,
                    &answer.body,
                );
            }
        }
    }
}

fn decompressed_by_curl(server: &Server, url: &str) -> String {
    let answer = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--compressed"])
        .args(["-H", "Accept-Encoding: br"])
        .arg(format!("http://{}{url}", server.address()))
        .output()
        .expect("curl runs");
    assert!(answer.status.success(), "{answer:?}");
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

mpm_tests! {
    fn matrix(mpm) {
        ours_only!("children of mod_wsgi leave what filters make of a body to chance");
        let rows = rows();
        let server = builder(mpm, &rows).start();
        // mod_cache_disk says so where a POST makes its entry invalid, of a file, too.
        server.allow_log("AH00717");
        let child = server.only_child();
        for row in rows {
            check_input(&server, row);
            check_output(&server, row);
            assert_eq!(server.only_child(), child, "{}: the child has died", row.name);
            if row.name == "security" {
                let kind = "application/x-www-form-urlencoded";
                let attack = Request::post("/row/security/body", "k=an+attack").header("Content-Type", kind);
                server.send(&attack).expect(403);
                server.expect_log("ModSecurity: Access denied");
            }
        }
    }

    fn clients_that_leave(mpm) {
        let rows = rows();
        let server = builder(mpm, &rows).start();
        // What is said of clients that have left is not what this is about.
        server.allow_log("");
        let child = server.only_child();
        for row in rows {
            let head = Request::post(&format!("/row/{}/body", row.name), body()).head_bytes();
            for sent in [0, 3000] {
                let mut connection = server.connect();
                connection.send([&head, &body()[..sent]].concat());
                thread::sleep(Duration::from_millis(20));
                connection.abort();
            }
            let endless = Request::get(&format!("/row/{}/endless", row.name)).header("Accept-Encoding", accepts(row));
            // mod_buffer and mod_cache keep what comes, mod_xsendfile drops it: there is no end of that.
            if !matches!(row.name, "buffer" | "cache" | "sendfile" | "security") {
                let mut connection = server.connect();
                connection.send(endless.to_bytes());
                connection.read_head().unwrap();
                connection.read_chunk().unwrap();
                connection.abort();
            }
            let plain = Request::post(&format!("/row/{}/body", row.name), body());
            check_body(row, "afterwards", &server.send(&plain).expect(200).body);
            assert_eq!(server.only_child(), child, "{}: the child has died", row.name);
        }
        assert_eq!(server.count_log("panicked|WSGI1011|WSGI1096|exit signal"), 0);
    }

    fn a_chunk_waits_for_no_other(mpm) {
        let gate = Gate::new();
        let server = Server::builder(mpm)
            .modules(&["deflate"])
            .app("/plain", "filters.wsgi")
            .app("/deflate", "filters.wsgi")
            .conf(&gate.directive())
            .conf("<Location /deflate>\nSetOutputFilter DEFLATE\n</Location>")
            .start();
        let mut connection = server.connect();
        connection.send(Request::get("/plain/burst").to_bytes());
        connection.read_head().unwrap();
        for turn in ["a", "b"] {
            let mut text = Vec::new();
            while text.len() < 9 {
                text.extend(connection.read_chunk().unwrap().unwrap());
            }
            assert_eq!(String::from_utf8_lossy(&text), format!("{turn}0\n{turn}1\n{turn}2\n"));
            gate.next().release();
        }
        let mut connection = server.connect();
        connection.send(Request::get("/deflate/burst").header("Accept-Encoding", "gzip").to_bytes());
        connection.read_head().unwrap();
        let mut packed = Vec::new();
        for expected in ["a0\na1\na2\n", "a0\na1\na2\nb0\nb1\nb2\n"] {
            loop {
                packed.extend(connection.read_chunk().unwrap().unwrap());
                let mut text = Vec::new();
                // It has no end yet.
                let _ = flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut text);
                if text.len() >= expected.len() {
                    assert_eq!(String::from_utf8_lossy(&text), expected);
                    break;
                }
            }
            gate.next().release();
        }
        // The client answers what it has got, and the application waits for that.
        let mut connection = server.connect();
        let request = Request::post("/plain/answer", "x");
        connection.send(request.head_bytes());
        connection.read_head().unwrap();
        let mut text = Vec::new();
        while text.len() < 6 {
            text.extend(connection.read_chunk().unwrap().unwrap());
        }
        assert_eq!(text, b"onetwo");
        connection.send("x");
        assert_eq!(connection.read_chunk().unwrap().unwrap(), b"x");
    }

    fn chunks_in_a_row_are_not_flushed_one_by_one(mpm) {
        ours_only!("mod_wsgi flushes each chunk");
        let server = Server::builder(mpm)
            .modules(&["deflate", "ratelimit"])
            .app("/slow", "filters.wsgi")
            .app("/deflate", "filters.wsgi")
            .conf("<Location /deflate>\nSetOutputFilter DEFLATE\n</Location>")
            .conf("<Location /slow>\nSetOutputFilter RATE_LIMIT\nSetEnv rate-limit 200\n</Location>")
            .start();
        // A flush for each would make 12,000 bytes of the one, and take 200 seconds with the other.
        let request = Request::get("/deflate/many?100").header("Accept-Encoding", "gzip");
        let packed = server.send(&request).expect(200).body;
        let mut text = Vec::new();
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut text).unwrap();
        assert_eq!(text.len(), 100_000);
        assert!(packed.len() < 4000, "{} bytes", packed.len());
        for size in [100_000, 1000, 100] {
            let slow = server.get(&format!("/slow/many?{size}")).expect(200);
            assert_eq!((slow.body.len(), slow.is_complete()), (100_000, true), "{size}");
        }
    }

    fn ranges_that_are_not_there(mpm) {
        ours_only!("mod_wsgi leaves the filter to other methods than GET");
        let has_xsendfile = has_module("xsendfile");
        let mut builder = Server::builder(mpm)
            .one_child()
            .app("/app", "filters.wsgi")
            .app("/none", "filters.wsgi")
            .conf("<Location /none>\nSetEnv test.ranges none\n</Location>");
        if has_xsendfile {
            builder = builder
                .modules(&["xsendfile"])
                .app("/missing", "filters.wsgi")
                .conf("<Location /missing>\nXSendFile On\nSetEnv test.sendfile /nowhere/file\n</Location>");
        }
        let server = builder.start();
        let child = server.only_child();
        let mut connection = server.connect();
        for _ in 0..2 {
            // A filter answers in place of the application, and nothing is added to that.
            let request = Request::get("/app/list").header("Range", "bytes=100000-").keep_alive();
            let answer = connection.exchange(&request).unwrap().expect(416);
            assert!(answer.is_complete() && answer.text().ends_with("</html>\n"), "{answer:?}");
        }
        let whole = server.send(&Request::get("/none/list").header("Range", "bytes=0-1")).expect(200);
        assert_eq!(whole.text(), given());
        let collected = server.send(&Request::get("/app/small").header("Range", "bytes=0-1")).expect(206);
        assert_eq!(collected.text(), "01");
        if has_xsendfile {
            for form in ["list", "stream"] {
                let answer = server.get(&format!("/missing/{form}")).expect(404);
                assert!(answer.is_complete() && answer.text().ends_with("</html>\n"), "{answer:?}");
                server.expect_log("xsendfile: unable to find file");
            }
        }
        assert_eq!(server.only_child(), child);
    }

    fn pages_for_refused_bodies(mpm) {
        ours_only!("mod_wsgi tells the page of a length that nobody can read");
        let server = Server::builder(mpm)
            .modules(&["deflate"])
            .app("/app", "filters.wsgi")
            .app("/pages", "filters.wsgi")
            .conf("WSGIChunkedRequest On\n<Location /app>\nLimitRequestBody 100\nErrorDocument 413 /pages/body\n</Location>")
            .start();
        let large = vec![b'x'; 5000];
        for (request, sent) in [
            (Request::post("/app/body", &large), 5000),
            (Request::post("/app/body", &large), 10),
            (Request::post("/app/body", &large), 0),
        ] {
            let mut connection = server.connect();
            connection.send([&request.head_bytes(), &large[..sent]].concat());
            let answer = connection.read_response("POST").unwrap().expect(413);
            assert_eq!((answer.json()["size"].clone(), answer.json()["told"].clone()), (0.into(), Value::Null));
        }
        server.expect_log("WSGI1009");
        // What was not refused is there for the page.
        let chunked = Request::new("POST", "/app/body").chunked(&[b"fits"]);
        assert_eq!(server.send(&chunked).expect(200).json()["size"], 4);
    }
}

/// A key and a certificate for `localhost`.
fn certificate(folder: &Path, name: &str) -> (Vec<u8>, Vec<u8>) {
    let file = |kind: &str| folder.join(format!("{name}.{kind}"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .arg("-keyout")
        .arg(file("key"))
        .arg("-out")
        .arg(file("pem"))
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    (
        std::fs::read(file("key")).unwrap(),
        std::fs::read(file("pem")).unwrap(),
    )
}

mpm_tests! {
    fn tls(mpm) {
        if !has_module("ssl") {
            let _ = writeln!(std::io::stderr(), "skipped: the filters of TLS: no mod_ssl here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (key, certificate_of_server) = certificate(folder.path(), "localhost");
        let (_, certificate_of_client) = certificate(folder.path(), "client");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut modules = vec!["ssl", "socache_shmcb", "deflate"];
        if mpm.threaded() && has_module("http2") {
            modules.push("http2");
        }
        let protocols = if modules.contains(&"http2") { "Protocols h2 http/1.1" } else { "" };
        let server = Server::builder(mpm)
            .one_child()
            .modules(&modules)
            .file("server.key", key)
            .file("server.pem", certificate_of_server)
            .file("client.pem", certificate_of_client)
            .app("/app", "filters.wsgi")
            .app("/known", "filters.wsgi")
            .conf(&format!("WSGIChunkedRequest On
                LogLevel ssl:error
                Listen 127.0.0.1:{port}
                <VirtualHost 127.0.0.1:{port}>
                    ServerName localhost
                    {protocols}
                    SSLEngine On
                    SSLCertificateFile ${{ROOT}}/server.pem
                    SSLCertificateKeyFile ${{ROOT}}/server.key
                    SSLCACertificateFile ${{ROOT}}/client.pem
                    <Location /known>
                        SSLVerifyClient require
                        SSLVerifyDepth 1
                    </Location>
                </VirtualHost>"))
            .start();
        let child = server.only_child();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let curl = |url: &str, arguments: &[&str], body: Option<&[u8]>| {
            let mut command = Command::new("curl");
            command.args(["-sS", "--max-time", "20", "--cacert", &path("localhost.pem")]).args(arguments);
            command.arg(format!("https://localhost:{port}{url}"));
            command.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut running = command.spawn().expect("curl runs");
            let mut stdin = running.stdin.take().unwrap();
            if let Some(body) = body {
                let (now, later) = body.split_at(body.len() / 2);
                stdin.write_all(now).unwrap();
                stdin.flush().unwrap();
                thread::sleep(Duration::from_millis(200));
                stdin.write_all(later).unwrap();
            }
            drop(stdin);
            let answer = running.wait_with_output().unwrap();
            assert!(answer.status.success(), "{url} {arguments:?}: {answer:?}");
            answer.stdout
        };
        let plain = body();
        let (client_certificate, client_key) = (path("client.pem"), path("client.key"));
        let known = ["--cert", &client_certificate, "--key", &client_key];
        for version in ["--http1.1", "--http2"] {
            // At once, and as it comes.
            for upload in [["--data-binary", "@-"], ["-T", "-"]] {
                let sent = curl("/app/body", &[&[version, "-X", "POST"], &upload[..]].concat(), Some(&plain));
                let said: Value = serde_json::from_slice(&sent).unwrap();
                assert_eq!(said["size"], plain.len(), "{version} {upload:?}");
            }
            assert_eq!(curl("/app/stream", &[version], None), given().into_bytes());
            assert_eq!(curl("/app/list", &[version, "-r", "10-19"], None), given().as_bytes()[10..20]);
        }
        // The certificate is asked for when the request has been read: its body is kept meanwhile.
        for upload in [["--data-binary", "@-"], ["-T", "-"]] {
            let how = [&known[..], &["--http1.1", "--tls-max", "1.2", "-X", "POST"], &upload[..]].concat();
            let sent = curl("/known/body", &how, Some(&plain));
            let said: Value = serde_json::from_slice(&sent)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&sent)));
            assert_eq!(said["size"], plain.len(), "{upload:?}");
        }
        let how = [&known[..], &["--http1.1", "--tls-max", "1.2"]].concat();
        assert_eq!(curl("/known/stream", &how, None), given().into_bytes());
        assert_eq!(server.only_child(), child);
    }
}
