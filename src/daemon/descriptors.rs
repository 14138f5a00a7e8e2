//! File descriptors: each query to a server takes one, and the usual soft limit of 1,024 is soon reached.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits;

/// Raises the soft limit as far as the hard limit lets us and use demands. Where that fails, questions wait for
/// descriptors instead.
pub(super) fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = limits::DESCRIPTORS.min(hard);
        if soft >= wanted { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_and_never_lowered() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        raise_limit();
        let (after, unchanged) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        assert_eq!((after, unchanged), (before.max(limits::DESCRIPTORS.min(hard)), hard));
    }
}
