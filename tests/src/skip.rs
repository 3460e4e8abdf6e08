//! Tests that cannot run here say so; in CI they fail instead, or nobody would notice.

/// Whether this run must prove everything: `CI=true` in the environment.
#[must_use]
pub fn is_required() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Prints why a test does not run here.
///
/// # Panics
/// In CI, where everything has to run.
pub fn skip(reason: &str) {
    assert!(!is_required(), "this test has to run in CI: {reason}");
    eprintln!("skipped: {reason}");
}

/// Ends the test function with a printed reason; in CI it fails instead.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skip::skip(&format!($($reason)*));
        return;
    }};
}
