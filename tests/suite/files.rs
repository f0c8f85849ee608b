//! Large files, files that change while they are sent, and file-like objects that are not files.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use harness::{
    Head, Mpm, Request, Server, descriptors, eventually, mpm_tests, ours_only, process_group,
};

/// The largest part of a file that APR puts into one bucket if lengths have 32 bits; mod_wsgi_rs once used it
/// everywhere.
const GIBIBYTE: u64 = 1 << 30;

mpm_tests! {
    fn more_than_a_gibibyte(mpm) {
        for sendfile in ["Off", "On"] {
            let server = start(mpm, sendfile);
            // Sizes around a gibibyte are read by ranges, which is quick; one byte more than a gibibyte is read as a
            // whole.
            for size in [GIBIBYTE - 1, GIBIBYTE, GIBIBYTE + 1] {
                let url = format!("/large?size={size}");
                let head = server.send(&Request::new("HEAD", &url)).expect(200);
                assert_eq!(head.header("Content-Length"), Some(size.to_string().as_str()));
                let whole = contents(size);
                for (first, last) in [(0, 2), (GIBIBYTE - 3, GIBIBYTE - 2), (GIBIBYTE - 3, GIBIBYTE + 5), (size - 3, size - 1)] {
                    let range = format!("bytes={first}-{last}");
                    let response = server.send(&Request::get(&url).header("Range", &range)).expect(206);
                    let expected: Vec<u8> = (first..=last.min(size - 1)).map(&whole).collect();
                    assert_eq!(response.body, expected, "{range} of {size}");
                }
            }
            let size = GIBIBYTE + 2;
            let (head, marks, received) = receive(&server, &format!("/large?size={size}&seek=1"));
            assert_eq!(head.header("Content-Length"), Some((GIBIBYTE + 1).to_string().as_str()));
            assert_eq!(received, GIBIBYTE + 1, "sendfile {sendfile}");
            assert_eq!(marks, [(GIBIBYTE - 2, b'a'), (GIBIBYTE - 1, b'b'), (GIBIBYTE, b'>')]);
        }
    }

    fn a_file_that_is_cut_while_it_is_sent(mpm) {
        for sendfile in ["Off", "On"] {
            let server = start(mpm, sendfile);
            let child = server.children();
            let size = 64 << 20;
            let mut connection = server.ask(&format!("/large?size={size}"));
            let head = connection.read_head().unwrap();
            assert_eq!(head.header("Content-Length"), Some(size.to_string().as_str()));
            let path = server.root().join(format!("data/file-{size}"));
            File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
            let mut received = 0;
            connection.read_rest(|data| received += data.len() as u64).unwrap();
            // More bytes could have come from the socket's buffers, but the rest of the file is gone.
            assert!(received < size, "{received} of {size}, sendfile {sendfile}");
            std::fs::remove_file(path).unwrap();
            server.get("/large?size=10").expect(200);
            assert!(child.iter().all(|pid| server.children().contains(pid)), "sendfile {sendfile}");
            server.allow_log("^AH|(?i)end of file|could not be sent|response");
        }
    }

    fn a_file_that_grows_while_it_is_sent(mpm) {
        for sendfile in ["Off", "On"] {
            let server = start(mpm, sendfile);
            let size = 64 << 20;
            let mut connection = server.connect();
            connection.send(Request::get(&format!("/large?size={size}")).keep_alive().to_bytes());
            let head = connection.read_head().unwrap();
            assert_eq!(head.header("Content-Length"), Some(size.to_string().as_str()));
            let path = server.root().join(format!("data/file-{size}"));
            File::options().append(true).open(&path).unwrap().write_all(&[b'+'; 100_000]).unwrap();
            // The next response follows directly after the announced length.
            connection.send(Request::get("/large?size=10").to_bytes());
            let mut all = Vec::new();
            connection.read_rest(|data| all.extend_from_slice(data)).unwrap();
            assert!(all[..size].ends_with(b"\0\0>"));
            assert!(all[size..].starts_with(b"HTTP/1.1 200 OK\r\n"));
            assert!(all.ends_with(b"\r\n\r\n<\0\0\0\0\0\0\0\0>"), "{:?}", &all[size..]);
        }
    }

    fn files_over_http2(mpm) {
        for sendfile in ["Off", "On"] {
            let server = builder(mpm, sendfile)
                .modules(&["http2"])
                .conf("Protocols h2c http/1.1\nH2Direct On")
                .file("content", content())
                .conf("WSGIScriptAlias /file ${APPS}/file_wrapper.wsgi\nSetEnv test.file ${ROOT}/content")
                .start();
            if mpm == Mpm::Prefork {
                // mod_http2 logs that it does not work well with prefork.
                server.allow_log("AH10034");
            }
            let folder = server.root().join("received");
            std::fs::create_dir(&folder).unwrap();
            for seek in (0..400_000).step_by(90_000) {
                let mut curl = Command::new("curl");
                curl.args(["-sS", "--http2-prior-knowledge", "--max-time", "60", "-o"]);
                let (received, port) = (folder.join(seek.to_string()), server.port());
                curl.arg(&received);
                curl.arg(format!("http://127.0.0.1:{port}/file/buffered?seek={seek}"));
                let output = curl.output().expect("curl can be run");
                assert!(output.status.success(), "{output:?}");
                let received = std::fs::read(received).unwrap();
                assert!(received == content()[seek..], "{seek}: {} bytes", received.len());
            }
        }
    }

    fn descriptors_are_neither_left_nor_inherited(mpm) {
        let server = builder(mpm, "Off").start();
        let processes = [server.only_child(), server.only_process()];
        server.get("/large?size=10").expect(200);
        let before = processes.map(descriptors);
        for _ in 0..20 {
            server.get("/large?size=100000").expect(200);
        }
        eventually("all files are closed", || {
            let now = processes.map(descriptors);
            now.iter().zip(before).all(|(now, before)| *now <= before).then_some(())
        });
        // A file is on its way to a client that waits, while other requests start programs.
        let mut connection = server.ask("/large?size=67108864");
        connection.read_head().unwrap();
        if mpm != Mpm::Prefork {
            let open = server.get("/large/inherited?size=67108864").expect(200).text();
            // A process of a group hands the file to httpd.
            let here = u8::from(process_group().is_none());
            assert_eq!(open, format!("{here} here, 0 in programs"));
        }
    }

    fn files_whose_size_says_nothing(mpm) {
        ours_only!("mod_wsgi sends as much as the size says");
        let server = builder(mpm, "On").app("/limits", "limits.wsgi").start();
        for (path, length) in [("/proc/self/comm", None), ("/proc/self/comm", Some(3)), ("/sys/kernel/mm/transparent_hugepage/enabled", None)] {
            let length = length.map_or(String::new(), |length| format!("&length={length}"));
            let response = server.get(&format!("/limits/special?path={path}{length}")).expect(200);
            assert!(response.is_complete() && !response.body.is_empty(), "{path}: {response:?}");
            if path.starts_with("/proc") {
                let name = response.text();
                assert_eq!(name.len() == 3, !length.is_empty(), "{name:?}");
            }
        }
    }
}

/// Returns the builder of a server that makes files in its root.
fn builder(mpm: Mpm, sendfile: &str) -> harness::Builder {
    Server::builder(mpm)
        .one_child()
        .writable_folder("data")
        .app("/large", "large_file.wsgi")
        .conf("SetEnv test.folder ${ROOT}/data")
        .conf(&format!(
            "WSGIEnableSendfile {sendfile}\nEnableSendfile {sendfile}"
        ))
}

fn start(mpm: Mpm, sendfile: &str) -> Server {
    builder(mpm, sendfile).start()
}

/// Requests a file that is zero except for its marks. Returns the head, the places of the marks, and the number of
/// bytes.
fn receive(server: &Server, url: &str) -> (Head, Vec<(u64, u8)>, u64) {
    let mut connection = server.ask(url);
    let head = connection.read_head().unwrap();
    assert_eq!(head.status, 200, "{head:?}");
    let (mut marks, mut received) = (Vec::new(), 0);
    connection
        .read_rest(|data| {
            // Comparing blocks is quick even without optimization.
            for block in data.chunks(4096) {
                if block != &[0; 4096][..block.len()] {
                    let found = (received..).zip(block.iter().copied());
                    marks.extend(found.filter(|(_, byte)| *byte != 0));
                }
                received += block.len() as u64;
            }
        })
        .unwrap();
    (head, marks, received)
}

/// Returns the byte at each place of a file of `large_file.wsgi`.
fn contents(size: u64) -> impl Fn(u64) -> u8 {
    move |at| match at {
        _ if at == size - 1 => b'>',
        0 => b'<',
        _ if at == GIBIBYTE - 1 => b'a',
        _ if at == GIBIBYTE => b'b',
        _ => 0,
    }
}

fn content() -> Vec<u8> {
    (0..400_000_u32)
        .map(|number| (number % 251) as u8)
        .collect()
}
