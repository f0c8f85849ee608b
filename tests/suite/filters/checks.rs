//! Requests through a filter, and the expected results.

use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use harness::{Ending, Request, Server, has_module, http2_exchange};
use serde_json::Value;

use super::rows::{Input, Output, Row, SENT};

/// Returns a body of lines, as of a form.
pub(super) fn body() -> Vec<u8> {
    let lines = (0..1000).map(|n| format!("k{n}=value+of+{n}&\n"));
    lines.collect::<String>().into_bytes()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(data).unwrap();
    packed.finish().unwrap()
}

/// Returns the body that the application returns in the forms `list` and `stream`.
pub(super) fn given() -> String {
    let lines = (0..60).map(|n| format!("line {n} of the text\n"));
    format!(
        "<!--#set var=\"x\" value=\"y\" -->{}",
        lines.collect::<String>()
    )
}

/// Returns the body that the client must get for it.
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
pub(super) fn check_body(row: &Row, way: &str, answer: &[u8]) {
    let plain = body();
    let said: Value = serde_json::from_slice(answer).unwrap_or_else(|error| {
        panic!(
            "{}, {way}: {error} in {:?}",
            row.name,
            String::from_utf8_lossy(answer)
        )
    });
    assert_eq!(said["size"], plain.len(), "{}, {way}", row.name);
    // If a filter changes a body, the length that the client sent does not apply.
    let told = said["told"].as_str();
    assert!(
        told.is_none() || told == Some(&plain.len().to_string()),
        "{}, {way}: {told:?}",
        row.name
    );
}

/// The requested part of a response, or all of it.
#[track_caller]
fn check_range(row: &Row, way: &str, status: u16, part: &[u8], whole: &[u8]) {
    match status {
        206 => assert_eq!(part, &whole[10..20], "{}, {way}", row.name),
        200 => assert_eq!(part, whole, "{}, {way}", row.name),
        status => panic!("{}, {way}: {status}", row.name),
    }
}

pub(super) fn accepts(row: &Row) -> &'static str {
    match row.output {
        Output::Brotli => "br",
        Output::Gzip => "gzip",
        _ => "identity",
    }
}

/// Checks a request body in all forms, over HTTP/1.1 and HTTP/2.
pub(super) fn check_input(server: &Server, row: &Row) {
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

/// Checks a response in all forms, over HTTP/1.1 and HTTP/2.
pub(super) fn check_output(server: &Server, row: &Row) {
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
        // Compressed bodies may differ by the moment at which they are flushed.
        let is_stable =
            form == "list" || row.output != Output::Gzip && row.output != Output::Brotli;
        assert!(part.is_complete());
        if is_stable {
            check_range(row, form, part.status(), &part.body, &whole.body);
        }
        // A body that comes in one piece, with its end, is cut as a file would be. These filters split it into several
        // pieces, and a file, too; mod_cache requests all of a body that it does not have yet.
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
