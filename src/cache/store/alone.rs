//! For tests that make fenced threads panic: each runs in a process of its own.
//!
//! A thread that the fence stops inside a panic keeps the panic hook's lock for good. The program never changes
//! its hook again, but the test harness does at its end, and would wait for ever.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, exit};

const MARK: &str = "POSTSEAL_TEST_ALONE";

/// Runs `body` in a process of its own; `test` is the calling test's path in the crate.
pub(super) fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        exit(i32::from(catch_unwind(AssertUnwindSafe(body)).is_err()));
    }
    let program = std::env::current_exe().expect("this program");
    let child = Command::new(program).args([test, "--exact", "--nocapture"]).env(MARK, "1").output();
    let output = child.expect("starts");
    let text = [output.stdout, output.stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned()).concat();
    assert!(output.status.success() && text.contains("running 1 test"), "{test}: {text}");
}

/// The same with a runtime.
pub(super) fn alone_async(test: &str, body: impl Future<Output = ()>) {
    alone(test, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(body);
    });
}
