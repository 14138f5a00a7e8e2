//! Postfix believes DANE records only from a resolver that validates. Where it shares this host's, we look, and say so
//! when that resolver does not; nothing else depends on it.

use std::path::Path;

use super::status::Status;
use crate::config;
use crate::limits::{RESOLVER_CHECK_INTERVAL, RESOLVER_CHECK_PATIENCE, UPKEEP_INTERVAL};
use crate::postfix::check::resolvers;
use crate::postfix::resolver::{PORT, examine};
use crate::postfix::site::{CONFIG_DIRECTORY, Site};

/// Looks once the root can be reached, or cannot, and then every hour. Never ends.
pub(super) async fn follow(config: &config::Postfix, status: &Status) {
    let root = async {
        while !status.is_root_seen() {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
        }
    };
    // Without the root our own listener fails, and then that is what is to be said.
    let _ = tokio::time::timeout(RESOLVER_CHECK_PATIENCE, root).await;
    let main_cf = Path::new(CONFIG_DIRECTORY).join("main.cf");
    loop {
        look(config, &main_cf, PORT).await;
        tokio::time::sleep(RESOLVER_CHECK_INTERVAL).await;
    }
}

/// One look; warns where a resolver does not validate. True where all do.
async fn look(config: &config::Postfix, main_cf: &Path, port: u16) -> Option<bool> {
    let site = Site::read(main_cf, None).ok();
    if !config.check_resolver.unwrap_or(site.is_some()) {
        return None;
    }
    let file = site.map_or_else(|| config.resolv_conf.clone(), |site| site.resolv_conf(&config.resolv_conf));
    // No file, no resolver of its own: nothing to say.
    let found = examine(&file, port).await.ok()?;
    match resolvers(&file, &found) {
        Some(finding) => tracing::warn!(file = %file.display(), "Postfix's resolver: {}", finding.text),
        None => tracing::debug!(file = %file.display(), "Postfix's resolvers validate"),
    }
    Some(resolvers(&file, &found).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UdpSocket;

    #[tokio::test]
    async fn the_check_applies_where_postfix_is_or_where_it_is_asked_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("main.cf"), "smtp_dns_support_level = dnssec\n").expect("written");
        std::fs::write(at("resolv.conf"), "nameserver 127.0.0.1\n").expect("written");
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let port = socket.local_addr().expect("an address").port();
        let serve = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                // The second question is answered with AD.
                static ASKED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
                let authentic = ASKED.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0;
                (buffer[2], buffer[3]) = (0x81, if authentic { 0xa0 } else { 0x80 });
                let _ = socket.send_to(&buffer[..length], peer).await;
            }
        });
        let config = |check_resolver, file| config::Postfix { check_resolver, resolv_conf: at(file) };
        let (here, nowhere) = (at("main.cf"), at("none.cf"));
        assert_eq!(look(&config(Some(false), "resolv.conf"), &here, port).await, None);
        assert_eq!(look(&config(None, "resolv.conf"), &nowhere, port).await, None);
        assert_eq!(look(&config(None, "missing"), &here, port).await, None);
        assert_eq!(look(&config(None, "resolv.conf"), &here, port).await, Some(false));
        assert_eq!(look(&config(Some(true), "resolv.conf"), &nowhere, port).await, Some(true));
        serve.abort();
    }
}
