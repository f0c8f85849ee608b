//! The start of a server from its description.

use std::fs;
use std::path::Path;

use crate::machine::{stage, wanted};
use crate::mpm::Mpm;
use crate::server::config::{self, Check};
use crate::server::description::{Builder, Ports};
use crate::server::root::{put, spawn};
use crate::server::running::Server;

impl Server {
    /// Begins the description of a server under this MPM.
    pub fn builder(mpm: Mpm) -> Builder {
        Builder::new(mpm)
    }
}

impl Builder {
    /// Lets httpd check the configuration, and starts nothing.
    pub fn check(self) -> Check {
        let root = stage::server_root("check");
        let ports = Ports {
            server: 1,
            metrics: 2,
        };
        let text = self.write(&root, ports);
        let check = config::check(&root, text);
        let _ = fs::remove_dir_all(&root);
        check
    }

    /// Starts the server and waits until it answers.
    pub fn start(self) -> Server {
        self.start_with(|_| {})
    }

    /// Does the same as [`Builder::start`]; before each start `prepare` may put files into the server root.
    pub fn start_with(self, prepare: impl Fn(&Path)) -> Server {
        for _ in 0..5 {
            if let Some(server) = self.try_start(&prepare) {
                return server;
            }
        }
        panic!("no free port in five attempts");
    }

    /// Returns `None` if another process took the port before httpd could bind it.
    fn try_start(&self, prepare: &impl Fn(&Path)) -> Option<Server> {
        let ports = Ports::free();
        let root = stage::server_root(&self.mpm.to_string());
        self.write(&root, ports);
        prepare(&root);
        let child = spawn(&root, self.single_process);
        let is_in_group = config::process_group(self).is_some();
        let mut server = Server::new(child, ports, root, self.mpm, is_in_group);
        if wanted::executor() == Some("pool") {
            // A child may have fewer threads than the pool that the suite asks for.
            server.allow_log("WSGI1052");
        }
        server.wait_until_it_answers().then_some(server)
    }

    fn write(&self, root: &Path, ports: Ports) -> String {
        stage::open_folder(&root.join("htdocs"));
        let text = match &self.example {
            Some(file) => config::example(file, root, ports.server),
            None => config::text(self, root, ports),
        };
        put(&root.join("httpd.conf"), text.as_bytes());
        put(
            &root.join("mime.types"),
            b"text/html html\ntext/plain txt\nimage/png png\n",
        );
        put(&root.join("htdocs/static.txt"), b"static\n");
        for (path, content) in &self.files {
            put(&root.join(path), content);
        }
        for path in &self.writable {
            stage::open_folder(&root.join(path));
            stage::chmod(&root.join(path), 0o777);
        }
        if self.alone {
            stage::open_folder(&root.join("alone"));
            fs::copy(stage::module(), root.join("alone/module.so")).unwrap();
            stage::chmod(&root.join("alone/module.so"), 0o755);
        }
        text
    }
}
