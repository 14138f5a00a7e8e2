//! Who is at the other end of a Unix socket, as the kernel tells (SO_PEERCRED, unix(7)).
//!
//! In: a connection. Out: user and process as of its beginning, and whether that user may operate this daemon. Never
//! believes what the other end says of itself.

use std::fmt;

use tokio::net::UnixStream;

/// Whoever opened a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its user; none where the kernel does not tell.
    pub uid: Option<u32>,
    /// Its process; none where it lives in another process namespace.
    pub pid: Option<i32>,
}

impl Caller {
    /// Whoever opened this connection.
    pub fn of(stream: &UnixStream) -> Self {
        match stream.peer_cred() {
            Ok(credentials) => Self { uid: Some(credentials.uid()), pid: credentials.pid().filter(|pid| *pid != 0) },
            Err(_) => Self::default(),
        }
    }

    /// Whether it may see everything that is known, and erase it: MTA-STS policies are security state. Only root and
    /// the user that the daemon runs as, `own`; never somebody who cannot be told.
    pub fn may_operate(self, own: u32) -> bool {
        self.uid.is_some_and(|uid| uid == 0 || uid == own)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            Some(uid) => write!(f, "user {uid}")?,
            None => f.write_str("an unknown user")?,
        }
        self.pid.map_or(Ok(()), |pid| write!(f, ", process {pid}"))
    }
}

/// The user that this process runs as.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_daemons_own_user_may_operate_it() {
        for (uid, own, may) in [
            (Some(0), 0, true),
            (Some(0), 998, true),
            (Some(998), 998, true),
            (Some(65_534), 0, false),
            (Some(65_534), 998, false),
            (Some(999), 998, false),
            (None, 0, false),
            (None, 998, false),
        ] {
            assert_eq!(Caller { uid, pid: Some(1) }.may_operate(own), may, "{uid:?} of {own}");
        }
    }

    #[tokio::test]
    async fn the_kernel_tells_user_and_process() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let caller = Caller::of(&one);
        let pid = i32::try_from(std::process::id()).ok();
        assert_eq!(caller, Caller { uid: Some(own_uid()), pid });
        assert_eq!(caller.to_string(), format!("user {}, process {}", own_uid(), std::process::id()));
    }
}
