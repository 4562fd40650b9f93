//! TLS with rustls, each `sslmode` as libpq means it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{Certificate, end_point};
use super::socket::Socket;
use super::{Failure, elsewhere};
use crate::config::{Host, Root, SslMode, Tls};
use crate::error::{Error, ErrorKind, Result};

/// What a client sends to ask for TLS: its own length and a number that is no protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

pub(super) struct Encrypted {
    pub(super) stream: TlsStream<TcpStream>,
    /// What SCRAM binds the login to.
    pub(super) end_point: Option<Vec<u8>>,
}

/// Asks the server for TLS and agrees on it. A server that has none gets the bare socket with `or_plain`.
pub(super) async fn encrypt(tls: &Tls, host: &Host, socket: Socket, or_plain: bool) -> Result<Socket, Failure> {
    let Socket::Tcp(mut socket) = socket else { return Ok(socket) };
    let (config, checks) = client_config(tls)?;
    let cut = |e: io::Error| Failure { handshake: true, ..elsewhere(Error::new(ErrorKind::Unreachable, format!("asking for TLS: {e}"))) };
    socket.write_all(&SSL_REQUEST).await.map_err(cut)?;
    // One byte and no more: what a stranger might have slipped in behind it must not be taken for the server's.
    match socket.read_u8().await.map_err(cut)? {
        b'S' => {}
        b'N' if or_plain => return Ok(Socket::Tcp(socket)),
        _ => {
            let words = "the server does not speak TLS, and sslmode asks for it; turn it on there (ssl = on), or set sslmode=prefer on a network that you trust";
            return Err(Failure { handshake: true, ..Error::new(ErrorKind::Refused, words).into() });
        }
    }
    let name = match ServerName::try_from(host.name.clone()) {
        Ok(name) => name,
        Err(_) if checks < Checks::Name => ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
        Err(_) => {
            let words = format!("{host}: this is no name that a certificate can be for, as sslmode=verify-full needs");
            return Err(Error::new(ErrorKind::Config, words).into());
        }
    };
    let stream = TlsConnector::from(config).connect(name, socket).await.map_err(|e| handshake_failure(e, host))?;
    let end_point = stream.get_ref().1.peer_certificates().and_then(|chain| end_point(chain.first()?));
    Ok(Socket::Tls(Box::new(Encrypted { stream, end_point })))
}

/// How far a server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Checks {
    Nothing,
    Chain,
    Name,
}

/// Read anew for every connection: certificates are renewed while programs run.
fn client_config(tls: &Tls) -> Result<(Arc<ClientConfig>, Checks)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match tls.mode {
        SslMode::VerifyCa | SslMode::VerifyFull => Some(roots(&tls.root)?.ok_or_else(no_root)?),
        // As in libpq: who has said whom to trust means it.
        SslMode::Require => roots(&tls.root)?,
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => None,
    };
    let checks = match (&roots, tls.mode) {
        (None, _) => Checks::Nothing,
        (Some(_), SslMode::VerifyFull) => Checks::Name,
        (Some(_), _) => Checks::Chain,
    };
    let roots = roots.unwrap_or_else(|| Roots { store: RootCertStore::empty(), given: Vec::new() });
    let verifier = Verifier { roots, checks, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(ErrorKind::Config, format!("setting TLS up: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match client_certificate(tls)? {
        Some((path, chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| Error::new(ErrorKind::Config, format!("the client certificate {} can't be used: {e}", path.display())))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok((Arc::new(config), checks))
}

/// `~/.postgresql/NAME`.
fn at_home(name: &str) -> Option<PathBuf> {
    Some(std::env::home_dir()?.join(".postgresql").join(name))
}

fn no_root() -> Error {
    Error::new(
        ErrorKind::Config,
        "sslmode asks to verify the server, and nobody is there to vouch for it: name the root certificate with sslrootcert=FILE, \
         put it at ~/.postgresql/root.crt, or write sslrootcert=system for those that this machine trusts",
    )
}

/// Certificates that are trusted, as they came.
#[derive(Debug)]
struct Roots {
    store: RootCertStore,
    given: Vec<CertificateDer<'static>>,
}

fn roots(root: &Root) -> Result<Option<Roots>> {
    let given = match root {
        Root::File(path) => certificates(path, "root certificate")?,
        Root::Default => match at_home("root.crt").filter(|path| path.exists()) {
            Some(path) => certificates(&path, "root certificate")?,
            None => return Ok(None),
        },
        Root::System => rustls_native_certs::load_native_certs().certs,
    };
    let mut store = RootCertStore::empty();
    let (_, unfit) = store.add_parsable_certificates(given.iter().cloned());
    if store.is_empty() {
        let where_ = if let Root::File(path) = root { path.display().to_string() } else { "the place for it".to_owned() };
        return Err(Error::new(ErrorKind::Config, format!("no root certificate in {where_} can be used ({unfit} can't be read)")));
    }
    Ok(Some(Roots { store, given }))
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |why: String| Error::new(ErrorKind::Config, format!("the {what} {} can't be read: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| failed(e.to_string()))?;
    if chain.is_empty() { Err(failed("there is no certificate in it (it must be in PEM form)".to_owned())) } else { Ok(chain) }
}

type Identity = (PathBuf, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The client's certificate with its key, where one is named or lies at home.
fn client_certificate(tls: &Tls) -> Result<Option<Identity>> {
    let path = match &tls.certificate {
        Some(path) => path.clone(),
        None => match at_home("postgresql.crt").filter(|path| path.exists()) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let chain = certificates(&path, "client certificate")?;
    let key = match &tls.key {
        Some(key) => key.clone(),
        None => at_home("postgresql.key").unwrap_or_default(),
    };
    let failed = |why: &str| Error::new(ErrorKind::Config, format!("the client's key {} {why}", key.display()));
    let metadata = std::fs::metadata(&key).map_err(|e| failed(&format!("can't be read: {e}; name it with sslkey=FILE")))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // As in libpq: root may share its keys with a group.
        let others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
        if metadata.mode() & others != 0 {
            return Err(failed(&format!("can be used by others; run: chmod 0600 {}", key.display())));
        }
    }
    if !metadata.is_file() {
        return Err(failed("is not a file"));
    }
    let pem = std::fs::read(&key).map_err(|e| failed(&format!("can't be read: {e}")))?;
    let encrypted = pem.windows(9).any(|window| window == b"ENCRYPTED");
    let found = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| match encrypted {
        true => failed("is locked with a passphrase, which is not supported; unlock it: openssl pkey -in FILE -out FILE"),
        false => failed("holds no private key in PEM form"),
    })?;
    Ok(Some((path, chain, found)))
}

#[derive(Debug)]
struct Verifier {
    roots: Roots,
    checks: Checks,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.checks == Checks::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots.store, intermediates, now, algorithms) {
            // A server's own certificate may be what is trusted, as in PostgreSQL's manual; its time was looked at before this.
            Err(error) if is_ca(&error) && self.roots.given.iter().any(|root| root == end_entity) => {}
            other => other?,
        }
        if self.checks == Checks::Name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    /// By the key alone: certificates of version 1, as PostgreSQL's manual makes them, are fine where nothing is verified.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = Certificate::read(cert).ok_or(CertificateError::BadEncoding)?.key;
        let key = SubjectPublicKeyInfoDer::from(key);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The verifier's reason, where rustls has no word of its own for it.
fn other_reason(error: &rustls::Error) -> Option<&webpki::Error> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

fn is_ca(error: &rustls::Error) -> bool {
    matches!(other_reason(error), Some(webpki::Error::CaUsedAsEndEntity))
}

fn handshake_failure(e: io::Error, host: &Host) -> Failure {
    let Some(error) = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Failure { handshake: true, ..elsewhere(Error::new(ErrorKind::Unreachable, format!("agreeing on TLS: {e}"))) };
    };
    use CertificateError as C;
    let words = match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            C::UnknownIssuer => {
                "nobody whom sslrootcert names has signed it (it is self-signed, or another's); if it is the right server, \
                                 have its certificate authority's root in that file"
                    .to_owned()
            }
            C::Expired | C::ExpiredContext { .. } => {
                "it has expired; have the server's certificate renewed (or this machine's clock set)".to_owned()
            }
            C::NotValidYet | C::NotValidYetContext { .. } => "it is not valid yet; look at this machine's clock".to_owned(),
            C::NotValidForName | C::NotValidForNameContext { .. } => format!(
                "it is not for the name '{}'; connect by a name that its subjectAltName has, or check the chain alone with sslmode=verify-ca",
                host.name
            ),
            _ if is_ca(error) => "it is a certificate authority's own, and not the one in sslrootcert".to_owned(),
            _ if matches!(other_reason(error), Some(webpki::Error::UnsupportedCertVersion)) => {
                "it is of version 1, which can't be verified; have one of version 3 made, with subjectAltName".to_owned()
            }
            C::BadEncoding => "it can't be read".to_owned(),
            other => format!("{other}"),
        },
        other => {
            let error = Error::new(ErrorKind::Refused, format!("the server and this program can't agree on TLS: {other}"));
            return Failure { handshake: true, ..error.into() };
        }
    };
    let error = Error::new(ErrorKind::Refused, format!("the server's certificate can't be trusted: {words}")).caused_by(e);
    Failure { handshake: true, ..error.into() }
}

/// A server that turns a client's certificate down says so when the client believes the handshake to be over.
pub(super) fn refused_by_server(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).and_then(|e| e.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner.or_else(|| error.downcast_ref()) {
            let words = format!(
                "the server turned the client certificate down ({alert:?}); look at sslcert and sslkey, and at the server's ssl_ca_file"
            );
            return Some(Error::new(ErrorKind::Refused, words));
        }
        next = error.source();
    }
    None
}
