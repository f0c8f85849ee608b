//! The same test must notice each broken rule, with fewer arenas than threads: then arenas change hands most often.

use std::process::Command;

use wsgi_telemetry::faults::{Fault, VARIABLE};

use crate::WRONG;

#[test]
fn every_fault_is_noticed() {
    for (name, fault) in Fault::ALL {
        // These children do not fork.
        if fault == Fault::Attached {
            continue;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "counts_stay_exact_when_threads_have_to_share"])
            .env(VARIABLE, name)
            // The test ends as soon as it has noticed the fault.
            .env("WSGI_TEST_LONG", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{name}: {said}");
        assert!(
            !output.status.success() && said.contains(WRONG),
            "{name} was not noticed: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
