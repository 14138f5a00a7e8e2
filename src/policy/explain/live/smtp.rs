//! One SMTP dialogue up to TLS (RFC 5321, RFC 3207): what a server shows.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::limits::{CHECK_CONNECT_TIME, CHECK_STEP_TIME, SMTP_LINE_BYTES, SMTP_REPLY_LINES};
use crate::names::Domain;

/// How far a dialogue got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    Greeting,
    Ehlo,
    StartTls,
    Handshake,
}

/// What a server shows once TLS stands.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// Its certificate, and those that it sent along.
    pub certificates: Vec<CertificateDer<'static>>,
    /// TLS version and cipher suite.
    pub tls: String,
}

/// Why a server shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("no connection: {0}")]
    Connect(io::ErrorKind),
    #[error("timed out: {}", .0.waiting_for())]
    Timeout(Step),
    #[error("the connection ended: {}", .0.waiting_for())]
    Closed(Step),
    #[error("what came is not SMTP: {}", .0.waiting_for())]
    NotSmtp(Step),
    #[error("the server refused: {} answered with \"{reply}\"", .step.said())]
    Refused { step: Step, reply: String },
    #[error("no STARTTLS offered")]
    NoStartTls,
    #[error("the server sent something unencrypted after agreeing to TLS")]
    Injected,
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
}

impl Problem {
    /// Whether a connection came about.
    pub(super) fn is_after_connecting(&self) -> bool {
        !matches!(self, Self::Connect(_) | Self::Timeout(Step::Connect))
    }
}

impl Step {
    fn waiting_for(self) -> &'static str {
        match self {
            Self::Connect => "while connecting",
            Self::Greeting => "while waiting for the greeting",
            Self::Ehlo => "while waiting for the reply to EHLO",
            Self::StartTls => "while waiting for the reply to STARTTLS",
            Self::Handshake => "during the TLS handshake",
        }
    }

    fn said(self) -> &'static str {
        match self {
            Self::Connect | Self::Greeting => "the greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls | Self::Handshake => "STARTTLS",
        }
    }
}

/// Connects, asks for TLS, and leaves again. `name` goes into SNI (RFC 7672 §8.1: the TLSA base domain).
pub(super) async fn look(server: SocketAddr, name: &Domain) -> Result<Shown, Problem> {
    let stream = match timeout(CHECK_CONNECT_TIME, TcpStream::connect(server)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Problem::Connect(error.kind())),
        Err(_) => return Err(Problem::Timeout(Step::Connect)),
    };
    // An address is a name that every server takes (RFC 5321 §4.1.3), whatever this host is called.
    let own = match stream.local_addr().map(|address| address.ip().to_canonical()) {
        Ok(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
        Ok(IpAddr::V4(address)) => format!("[{address}]"),
        Err(error) => return Err(Problem::Connect(error.kind())),
    };
    let mut dialogue = Dialogue { stream, unread: Vec::new() };
    dialogue.expect(Step::Greeting, None, b'2').await?;
    let offers = dialogue.expect(Step::Ehlo, Some(&format!("EHLO {own}\r\n")), b'2').await?;
    if !offers.iter().skip(1).any(|line| line.trim().eq_ignore_ascii_case("STARTTLS")) {
        _ = timeout(CHECK_STEP_TIME, dialogue.stream.write_all(b"QUIT\r\n")).await;
        return Err(Problem::NoStartTls);
    }
    dialogue.expect(Step::StartTls, Some("STARTTLS\r\n"), b'2').await?;
    if !dialogue.unread.is_empty() {
        return Err(Problem::Injected);
    }
    handshake(dialogue.stream, name).await
}

async fn handshake(stream: TcpStream, name: &Domain) -> Result<Shown, Problem> {
    let failed = |error: &dyn std::fmt::Display| Problem::Handshake(error.to_string());
    let witness = Arc::new(Witness::new());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&witness.provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    // A resumed session would show no certificate.
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(name.as_str().to_owned()).map_err(|error| failed(&error))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = match timeout(CHECK_STEP_TIME, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(Problem::Timeout(Step::Handshake)),
    };
    let (_, session) = stream.get_ref();
    let version = session.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default();
    let suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
    let tls = format!("{}, {suite}", version.replace('_', "."));
    // In order; whether the server hears it does not matter.
    _ = timeout(LEAVING_TIME, async {
        stream.write_all(b"QUIT\r\n").await?;
        stream.shutdown().await
    })
    .await;
    let certificates = std::mem::take(&mut *witness.certificates.lock());
    Ok(Shown { certificates, tls })
}

/// How long good manners may take.
const LEAVING_TIME: Duration = Duration::from_secs(1);

/// Commands and replies in the clear.
struct Dialogue<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    /// Sends a command and reads its reply, which has to begin with this digit.
    async fn expect(&mut self, step: Step, command: Option<&str>, wanted: u8) -> Result<Vec<String>, Problem> {
        let exchange = async {
            if let Some(command) = command {
                self.stream.write_all(command.as_bytes()).await.map_err(|_| Problem::Closed(step))?;
            }
            self.reply(step).await
        };
        let (code, lines) = timeout(CHECK_STEP_TIME, exchange).await.map_err(|_| Problem::Timeout(step))??;
        match code.first() {
            Some(first) if *first == wanted => Ok(lines),
            _ => {
                let text = lines.first().map(String::as_str).unwrap_or_default();
                Err(Problem::Refused { step, reply: format!("{} {text}", String::from_utf8_lossy(&code)) })
            }
        }
    }

    /// A reply of one or more lines (RFC 5321 §4.2.1): its code, and the text of each line.
    async fn reply(&mut self, step: Step) -> Result<([u8; 3], Vec<String>), Problem> {
        let mut lines = Vec::new();
        while lines.len() < SMTP_REPLY_LINES {
            let line = self.line(step).await?;
            let (code, rest) = line.split_first_chunk::<3>().ok_or(Problem::NotSmtp(step))?;
            if !code.iter().all(u8::is_ascii_digit) || !matches!(rest.first(), None | Some(b' ' | b'-')) {
                return Err(Problem::NotSmtp(step));
            }
            lines.push(readable(rest.get(1..).unwrap_or_default()));
            if rest.first() != Some(&b'-') {
                return Ok((*code, lines));
            }
        }
        Err(Problem::NotSmtp(step))
    }

    /// One line without its end.
    async fn line(&mut self, step: Step) -> Result<Vec<u8>, Problem> {
        loop {
            if let Some(end) = self.unread.iter().position(|octet| *octet == b'\n') {
                let mut line: Vec<u8> = self.unread.drain(..=end).collect();
                line.truncate(end);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            if self.unread.len() > SMTP_LINE_BYTES {
                return Err(Problem::NotSmtp(step));
            }
            let mut part = [0; 512];
            let count = self.stream.read(&mut part).await.map_err(|_| Problem::Closed(step))?;
            let part = part.get(..count).filter(|part| !part.is_empty()).ok_or(Problem::Closed(step))?;
            self.unread.extend_from_slice(part);
        }
    }
}

/// A stranger's text for a terminal.
fn readable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(LINE_SHOWN).collect()
}

/// Characters of a reply that are shown.
const LINE_SHOWN: usize = 200;

/// Takes note of the certificates, and lets any through: nothing is sent to the server afterwards but good-bye, and
/// [`super::judge`] says what they are worth. That the server has the key is verified here, as ever.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    certificates: Mutex<Vec<CertificateDer<'static>>>,
}

impl Witness {
    fn new() -> Self {
        Self { provider: Arc::new(rustls::crypto::ring::default_provider()), certificates: Mutex::default() }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(own).chain(others);
        *self.certificates.lock() = all.map(|certificate| certificate.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
