//! The parameters of a connection string, with their meaning.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::ChannelBinding;

use super::password::{Password, Secret};
use super::server::{Host, Pooler, Root, Server, SslMode, Target, Tls};
use super::text::Parameters;

/// Everything a connection string says.
pub(super) struct Read {
    pub(super) server: Server,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) pooler: Pooler,
}

/// The variable that stands for a parameter that is not given.
fn variable(key: &str) -> Option<&'static str> {
    Some(match key {
        "host" => "PGHOST",
        "hostaddr" => "PGHOSTADDR",
        "port" => "PGPORT",
        "dbname" => "PGDATABASE",
        "user" => "PGUSER",
        "passfile" => "PGPASSFILE",
        "options" => "PGOPTIONS",
        "application_name" => "PGAPPNAME",
        "sslmode" => "PGSSLMODE",
        "sslrootcert" => "PGSSLROOTCERT",
        "sslcert" => "PGSSLCERT",
        "sslkey" => "PGSSLKEY",
        "channel_binding" => "PGCHANNELBINDING",
        "target_session_attrs" => "PGTARGETSESSIONATTRS",
        "load_balance_hosts" => "PGLOADBALANCEHOSTS",
        "connect_timeout" => "PGCONNECT_TIMEOUT",
        "pooler" => "HITHERTO_POOLER",
        _ => return None,
    })
}

const KNOWN: [&str; 27] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "passfile",
    "password",
    "pooler",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Parameters of libpq that are refused, with what to do in their place.
const REFUSED: [(&str, &str); 12] = [
    ("sslpassword", "keep the client's key without a passphrase, readable by its owner alone: openssl pkey -in FILE -out FILE"),
    ("sslcrl", "lists of revoked certificates are not looked at; leave it out"),
    ("sslcrldir", "lists of revoked certificates are not looked at; leave it out"),
    ("sslnegotiation", "only the negotiation that every server knows is supported; leave it out"),
    ("sslcertmode", "a client certificate is sent when the server asks and there is one; leave it out"),
    ("sslsni", "the server is always told the name it was asked for by; leave it out"),
    ("ssl_min_protocol_version", "TLS 1.2 and 1.3 are spoken; leave it out"),
    ("ssl_max_protocol_version", "TLS 1.2 and 1.3 are spoken; leave it out"),
    ("requirepeer", "it is not supported; leave it out"),
    ("require_auth", "it is not supported; use channel_binding=require to be sure of SCRAM"),
    ("service", "service files are not read; write out what stands there"),
    ("requiressl", "write sslmode=require"),
];

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Gives parameters their meaning; what is missing is taken from the environment, as libpq does.
pub(super) fn read(parameters: &Parameters, env: Env<'_>) -> Result<Read, String> {
    if let Some((key, advice)) = REFUSED.iter().find(|(key, _)| parameters.contains_key(*key)) {
        return Err(format!("{key} is not supported: {advice}"));
    }
    // The key itself may be a piece of a password.
    if parameters.keys().any(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("it has a parameter that is not known; these are: {}", KNOWN.join(", ")));
    }
    let get = |key: &str| -> Option<(String, String)> {
        let given = parameters.get(key).filter(|value| !value.is_empty()).map(|value| (key.to_owned(), value.clone()));
        given.or_else(|| {
            let name = variable(key)?;
            Some((name.to_owned(), env(name).filter(|value| !value.is_empty())?))
        })
    };
    let text = |key: &str| get(key).map(|(_, value)| value);
    let user = text("user").or_else(|| env("USER").filter(|u| !u.is_empty())).unwrap_or_else(|| "postgres".to_owned());
    if parameters.get("gssencmode").is_some_and(|mode| mode == "require") {
        return Err("gssencmode=require is not supported: encrypt with sslmode".to_owned());
    }
    if parameters.get("client_encoding").is_some_and(|e| !matches!(&*e.to_lowercase(), "utf8" | "utf-8" | "unicode" | "auto")) {
        return Err("client_encoding is always UTF8; leave it out".to_owned());
    }
    let seconds = |key: &str| -> Result<Option<Duration>, String> {
        let value = number(get(key))?;
        Ok(value.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).map(Duration::from_secs))
    };
    let keepalive = number(get("keepalives"))? != Some(0);
    let mut probes = socket2::TcpKeepalive::new().with_time(seconds("keepalives_idle")?.unwrap_or(Duration::from_secs(2 * 60 * 60)));
    if let Some(interval) = seconds("keepalives_interval")? {
        probes = probes.with_interval(interval);
    }
    let count = number(get("keepalives_count"))?.or(number(get("keepalives_retries"))?);
    if let Some(count) = count.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) {
        probes = probes.with_retries(count);
    }
    let server = Server {
        hosts: hosts(get("host"), get("hostaddr"), get("port"))?,
        shuffled: one_of(get("load_balance_hosts"), &[("disable", false), ("random", true)])?.unwrap_or(false),
        target: one_of(
            get("target_session_attrs"),
            &[
                ("any", Target::Any),
                ("read-write", Target::ReadWrite),
                ("read-only", Target::ReadOnly),
                ("primary", Target::Primary),
                ("standby", Target::Standby),
                ("prefer-standby", Target::PreferStandby),
            ],
        )?
        .unwrap_or(Target::Any),
        database: text("dbname"),
        password: password(parameters, text("passfile"), env),
        application_name: text("application_name")
            .or_else(|| parameters.get("fallback_application_name").cloned())
            .unwrap_or_else(|| "hitherto".to_owned()),
        options: text("options"),
        tls: tls(get("sslmode"), text("sslrootcert"), text("sslcert"), text("sslkey"))?,
        channel_binding: one_of(
            get("channel_binding"),
            &[("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)],
        )?
        .unwrap_or(ChannelBinding::Prefer),
        keepalive: keepalive.then_some(probes),
        tcp_user_timeout: number(get("tcp_user_timeout"))?
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| *n > 0)
            .map(Duration::from_millis),
        user,
    };
    let pooler = one_of(get("pooler"), &[("auto", Pooler::Auto), ("transaction", Pooler::Transaction), ("none", Pooler::None)])?;
    Ok(Read { server, connect_timeout: seconds("connect_timeout")?, pooler: pooler.unwrap_or_default() })
}

fn password(parameters: &Parameters, passfile: Option<String>, env: Env<'_>) -> Password {
    let given = |value: Option<String>| value.filter(|p| !p.is_empty()).map(|p| Password::Given(Secret(p)));
    if let Some(password) = given(parameters.get("password").cloned()) {
        return password;
    }
    if let Some(file) = env("HITHERTO_PASSWORD_FILE").filter(|f| !f.is_empty()) {
        return Password::File(file.into());
    }
    if let Some(password) = given(env("PGPASSWORD")) {
        return password;
    }
    match (passfile, std::env::home_dir()) {
        (Some(file), _) => Password::Passfile(file.into(), true),
        (None, Some(home)) => Password::Passfile(home.join(".pgpass"), false),
        (None, None) => Password::None,
    }
}

fn hosts(
    names: Option<(String, String)>,
    addresses: Option<(String, String)>,
    ports: Option<(String, String)>,
) -> Result<Vec<Host>, String> {
    let list = |given: &Option<(String, String)>| -> Vec<String> {
        given.as_ref().map(|(_, value)| value.split(',').map(|part| part.trim().to_owned()).collect()).unwrap_or_default()
    };
    let (names, addresses, port_list) = (list(&names), list(&addresses), list(&ports));
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(format!("it names {} hosts and {} addresses; write as many of each", names.len(), addresses.len()));
    }
    let count = names.len().max(addresses.len());
    if port_list.len() > 1 && port_list.len() != count {
        return Err(format!("it names {count} hosts and {} ports; write one port, or one for each host", port_list.len()));
    }
    let key = ports.map(|(key, _)| key).unwrap_or_default();
    (0..count)
        .map(|i| {
            let address = match addresses.get(i).filter(|a| !a.is_empty()) {
                Some(address) => Some(address.parse().map_err(|_| "hostaddr takes an IP address".to_owned())?),
                None => None,
            };
            let name = match names.get(i).filter(|name| !name.is_empty()) {
                Some(name) => name.clone(),
                None => address.map_or_else(|| "localhost".to_owned(), |address: IpAddr| address.to_string()),
            };
            let port = match port_list.get(i).or(port_list.first()).map(String::as_str) {
                None | Some("") => 5432,
                // What stands there may be a piece of a password.
                Some(port) => u16::from_str(port).ok().filter(|port| *port > 0).ok_or_else(|| match key.as_str() {
                    "PGPORT" => format!("PGPORT is '{port}', which is not a port"),
                    _ => {
                        "its port is not a number from 1 to 65535; in a password write %40 for an @, %2F for a / and %3A for a :".to_owned()
                    }
                })?,
            };
            Ok(Host { name, address, port })
        })
        .collect()
}

fn tls(mode: Option<(String, String)>, root: Option<String>, certificate: Option<String>, key: Option<String>) -> Result<Tls, String> {
    let modes = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    let named = mode.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
    let mode = one_of(mode, &modes)?;
    let root = match root.as_deref() {
        None => Root::Default,
        Some("system") => Root::System,
        Some(file) => Root::File(file.into()),
    };
    if root == Root::System && mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
        return Err(format!(
            "{named} must be verify-full (or left out) with sslrootcert=system: whom the system trusts is anybody, without the name"
        ));
    }
    let mode = mode.unwrap_or(if root == Root::System { SslMode::VerifyFull } else { SslMode::Prefer });
    if cfg!(not(feature = "tls")) && mode > SslMode::Prefer {
        return Err(
            "it asks for an encrypted connection, and this program was built without the cargo feature tls; build it with that".to_owned()
        );
    }
    Ok(Tls { mode, root, certificate: certificate.map(PathBuf::from), key: key.map(PathBuf::from) })
}

fn one_of<T: Copy>(given: Option<(String, String)>, words: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some((key, value)) = given else { return Ok(None) };
    match words.iter().find(|(word, _)| *word == value) {
        Some((_, meaning)) => Ok(Some(*meaning)),
        None => Err(format!("{key} is one of {}", words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "))),
    }
}

fn number(given: Option<(String, String)>) -> Result<Option<i64>, String> {
    let Some((key, value)) = given else { return Ok(None) };
    value.trim().parse().map(Some).map_err(|_| format!("{key} is a whole number"))
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::*;

    fn read_with(text: &str, env: &[(&str, &str)]) -> Result<Read, String> {
        read(&parse(text).unwrap(), &|name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn hosts_of(text: &str, env: &[(&str, &str)]) -> String {
        match read_with(text, env) {
            Ok(read) => read.server.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(" "),
            Err(why) => why,
        }
    }

    #[test]
    fn hosts_and_ports_go_together() {
        for (text, env, expected) in [
            ("postgresql://a,b:6/x", &[][..], "a:5432 b:6"),
            ("host=a,b port=7", &[], "a:7 b:7"),
            ("host=a,b port=7,", &[], "a:7 b:5432"),
            ("host=a,b port=7,8,9", &[], "it names 2 hosts and 3 ports; write one port, or one for each host"),
            ("hostaddr=::1,127.0.0.1", &[], "[::1]:5432 127.0.0.1:5432"),
            ("hostaddr=nowhere", &[], "hostaddr takes an IP address"),
            ("user=u", &[("PGHOST", "a,b"), ("PGPORT", "1,2")], "a:1 b:2"),
            ("postgresql://a/x", &[("PGHOST", "b"), ("PGPORT", "9")], "a:9"),
            ("host=a", &[("PGPORT", "x")], "PGPORT is 'x', which is not a port"),
            ("host=/run/pg", &[], "/run/pg:5432"),
            (
                "postgresql://a:0/x",
                &[],
                "its port is not a number from 1 to 65535; in a password write %40 for an @, %2F for a / and %3A for a :",
            ),
        ] {
            assert_eq!(hosts_of(text, env), expected, "{text}");
        }
    }

    #[test]
    fn the_environment_stands_in_for_what_is_not_given() {
        let env = [("PGSSLMODE", "require"), ("PGUSER", "ann"), ("PGPASSWORD", "p"), ("PGTARGETSESSIONATTRS", "primary")];
        let read = read_with("host=h", &env).unwrap();
        assert_eq!((read.server.user.as_str(), read.server.target), ("ann", Target::Primary));
        assert!(matches!(read.server.password, Password::Given(Secret(p)) if p == "p"));
        let read = read_with("host=h password=q user=bob target_session_attrs=any pooler=transaction", &env).unwrap();
        assert_eq!((read.server.user.as_str(), read.server.target, read.pooler), ("bob", Target::Any, Pooler::Transaction));
        assert!(matches!(read.server.password, Password::Given(Secret(p)) if p == "q"));
        let files = [("HITHERTO_PASSWORD_FILE", "/f"), ("PGPASSWORD", "p")];
        assert!(matches!(read_with("host=h", &files).unwrap().server.password, Password::File(_)));
        let passfile = read_with("host=h passfile=/g", &[("PGPASSFILE", "/f")]).unwrap().server.password;
        assert!(matches!(passfile, Password::Passfile(path, true) if path == std::path::Path::new("/g")));
    }

    #[test]
    fn what_is_not_supported_is_named_with_what_to_do() {
        for (text, told) in [
            ("host=h sslpassword=x", "sslpassword is not supported: keep the client's key without a passphrase"),
            ("host=h sslmode=verify", "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full"),
            ("host=h target_session_attrs=x", "target_session_attrs is one of any, read-write"),
            ("host=h sslrootcert=system sslmode=require", "must be verify-full"),
            ("host=h connect_timeout=soon", "connect_timeout is a whole number"),
            ("host=h client_encoding=latin1", "client_encoding is always UTF8"),
            ("host=h gssencmode=require", "encrypt with sslmode"),
            ("host=h nonsense=1", "it has a parameter that is not known"),
        ] {
            let why = read_with(text, &[]).err().unwrap();
            assert!(why.contains(told) && !why.contains("nonsense"), "{text}: {why}");
        }
        assert_eq!(read_with("host=h sslrootcert=system", &[]).unwrap().server.tls.mode, SslMode::VerifyFull);
        assert_eq!(read_with("host=h gssencmode=disable", &[]).unwrap().server.tls.mode, SslMode::Prefer);
    }
}
