//! Which server, and how to reach it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::ChannelBinding;

use super::password::Password;

/// One place where a server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its name, an address, or the folder of a Unix socket, which begins with `/`.
    pub(crate) name: String,
    /// Where to go in place of asking for the name's address.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Host {
    pub(crate) fn is_socket(&self) -> bool {
        self.name.starts_with('/') && self.address.is_none()
    }

    /// What a password file calls it.
    pub(crate) fn name_in_passfile(&self) -> &str {
        if matches!(self.name.as_str(), "/tmp" | "/var/run/postgresql" | "/run/postgresql") { "localhost" } else { &self.name }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') { write!(f, "[{}]:{}", self.name, self.port) } else { write!(f, "{}:{}", self.name, self.port) }
    }
}

/// How much a connection must be guarded, in libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Who vouches for a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// A file that was named.
    File(PathBuf),
    /// Whom this machine trusts.
    System,
    /// `~/.postgresql/root.crt`, if it is there.
    Default,
}

#[cfg_attr(not(feature = "tls"), allow(dead_code))]
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    pub(crate) root: Root,
    /// The client's certificate and key, where they were named.
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// What a session must be fit for, in libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// What stands between this program and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooler {
    /// Found out at every connection: a server that goes by another process number than it told has a
    /// pooler before it.
    #[default]
    Auto,
    /// A pooler, such as pgbouncer in transaction mode, that may hand every transaction to another session
    /// of the server.
    Transaction,
    /// Nothing, or a pooler that keeps a client's session together.
    None,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) hosts: Vec<Host>,
    /// Try them in any order.
    pub(crate) shuffled: bool,
    pub(crate) target: Target,
    pub(crate) user: String,
    pub(crate) database: Option<String>,
    pub(crate) password: Password,
    pub(crate) application_name: String,
    pub(crate) options: Option<String>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(crate) tls: Tls,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) keepalive: Option<socket2::TcpKeepalive>,
    pub(crate) tcp_user_timeout: Option<Duration>,
}
