//! Encrypted connections: what each sslmode lets through, and what it turns down.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hitherto::records::HealthCheck;
use hitherto::{Config, Error, ErrorKind, WriterConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::harness::{self, Server, free_port};

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// Certificate and key, as PEM.
pub(crate) fn signed(params: &CertificateParams, by: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

pub(crate) struct Place {
    pub(crate) server: Server,
    /// Files of the client.
    pub(crate) files: tempfile::TempDir,
}

pub(crate) const OPEN: &str = "local all all trust\nhost all all all trust\n";

impl Place {
    pub(crate) fn new() -> Self {
        let server = Server::new(free_port(), "-c fsync=off");
        server.make_data(&server.data(), &[]);
        Self { server, files: tempfile::tempdir().unwrap() }
    }

    /// Starts the server again with this certificate, or without any, and these rules.
    pub(crate) fn serve(&self, certificate: Option<&(String, String)>, rules: &str, settings: &str) {
        let _ = self.server.stop();
        let data = self.server.data();
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        let ssl = match certificate {
            Some((certificate, key)) => {
                std::fs::write(data.join("server.crt"), certificate).unwrap();
                std::fs::write(data.join("server.key"), key).unwrap();
                "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n"
            }
            None => "ssl = off\n",
        };
        std::fs::write(data.join("postgresql.auto.conf"), format!("{ssl}{settings}\n")).unwrap();
        for name in ["pg_hba.conf", "server.crt", "server.key", "postgresql.auto.conf"] {
            if data.join(name).exists() {
                std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        self.server.own(&data).unwrap();
        self.server.start().unwrap();
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn config(&self, host: &str, parameters: &str) -> Config {
        Config::from_url(&format!("postgresql://postgres@{host}:{}/postgres?{parameters}", self.server.port)).unwrap()
    }

    /// Whether the session is encrypted.
    async fn encrypted(&self, host: &str, parameters: &str) -> Result<bool, Error> {
        let client = self.config(host, parameters).connect().await?;
        let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
        Ok(row.get(0))
    }

    async fn refused(&self, host: &str, parameters: &str, told: &str) {
        let error = self.encrypted(host, parameters).await.err().unwrap_or_else(|| panic!("{host} {parameters}: let in"));
        assert_eq!(error.kind(), ErrorKind::Refused, "{host} {parameters}: {error}");
        assert!(error.to_string().contains(told), "{host} {parameters}: {error}");
        assert!(!error.is_retryable(), "{error}");
    }

    async fn accepted(&self, host: &str, parameters: &str, encrypted: bool) {
        let session = self.encrypted(host, parameters).await;
        assert_eq!(session.unwrap_or_else(|e| panic!("{host} {parameters}: {e}")), encrypted, "{host} {parameters}");
    }
}

pub(crate) fn root(mode: &str, path: &Path) -> String {
    format!("sslmode={mode}&sslrootcert={}", path.display())
}

#[tokio::test]
async fn each_sslmode_checks_what_libpq_has_it_check() {
    let place = Place::new();
    let (ours, other) = (authority("ours"), authority("another"));
    let (our_root, other_root) = (place.file("ours.crt", &ours.pem()), place.file("another.crt", &other.pem()));
    let good = signed(&params(&["localhost"], "localhost"), &ours);

    place.serve(Some(&good), OPEN, "");
    place.accepted("localhost", &root("verify-full", &our_root), true).await;
    place.refused("localhost", &root("verify-full", &other_root), "nobody whom sslrootcert names has signed it").await;
    place.refused("localhost", &root("verify-ca", &other_root), "nobody whom sslrootcert names has signed it").await;
    place.refused("127.0.0.1", &root("verify-full", &our_root), "it is not for the name '127.0.0.1'").await;
    place.accepted("127.0.0.1", &root("verify-ca", &our_root), true).await;
    // Who names a root certificate means it.
    place.accepted("127.0.0.1", &root("require", &our_root), true).await;
    place.refused("127.0.0.1", &root("require", &other_root), "can't be trusted").await;
    place.accepted("127.0.0.1", "sslmode=require", true).await;
    place.accepted("127.0.0.1", &root("prefer", &other_root), true).await;
    place.accepted("127.0.0.1", "", true).await;
    place.accepted("127.0.0.1", "sslmode=allow", false).await;
    place.accepted("127.0.0.1", "sslmode=disable", false).await;
    place.refused("localhost", "sslrootcert=system", "nobody whom sslrootcert names has signed it").await;
    for (parameters, told) in [
        ("sslmode=verify-full", "name the root certificate with sslrootcert=FILE"),
        ("sslmode=verify-ca&sslrootcert=/nowhere.crt", "/nowhere.crt can't be read"),
        ("sslmode=require&sslrootcert=/etc/hostname", "there is no certificate in it"),
    ] {
        let error = place.encrypted("localhost", parameters).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(told), "{error}");
    }

    // The whole way in goes through the pool's connections.
    let config = place.config("localhost", &root("verify-full", &our_root));
    let store = harness::migrated(&config, Some(hitherto::Engine::Postgresql)).await;
    let writer = store.writer(WriterConfig::new("test"));
    for n in 0..5_000 {
        writer.write(HealthCheck::new("m", "healthy").error_count(n)).await.unwrap();
    }
    assert_eq!(writer.close().await.unwrap().stored, 5_000);
    let sessions =
        "SELECT bool_and(s.ssl), count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'hitherto'";
    let row = store.client().await.unwrap().query_one(sessions, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0) && row.get::<_, i64>(1) > 0);
    drop(store);

    // The login is bound to the certificate that was seen.
    place.serve(Some(&good), "local all all trust\nhost all all all scram-sha-256\n", "");
    let socket =
        Config::from_url(&format!("postgresql://postgres@/postgres?host={}&port={}", place.server.folder.display(), place.server.port));
    let client = socket.unwrap().connect().await.unwrap();
    client.batch_execute("ALTER ROLE postgres PASSWORD 'secret'").await.unwrap();
    place.accepted("127.0.0.1", "sslmode=require&channel_binding=require&password=secret", true).await;
    let error = place.encrypted("127.0.0.1", "sslmode=disable&channel_binding=require&password=secret").await.unwrap_err();
    assert!(error.to_string().contains("channel binding"), "{error}");
}

#[tokio::test]
async fn servers_with_poor_certificates_are_told_apart() {
    let place = Place::new();
    let ours = authority("ours");
    let our_root = place.file("ours.crt", &ours.pem());
    let (full, chain) = (root("verify-full", &our_root), root("verify-ca", &our_root));

    let mut expired = params(&["localhost"], "localhost");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_before = rcgen::date_time_ymd(2019, 1, 1);
    place.serve(Some(&signed(&expired, &ours)), OPEN, "");
    place.refused("localhost", &full, "it has expired").await;
    place.refused("localhost", &chain, "it has expired").await;
    place.accepted("localhost", "sslmode=require", true).await;

    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let mut own = params(&["localhost"], "localhost");
        own.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let own = (own.self_signed(&key).unwrap().pem(), key.serialize_pem());
        place.serve(Some(&own), OPEN, "");
        let error = place.encrypted("localhost", &full).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("sslrootcert"), "{error}");
        place.accepted("localhost", "sslmode=require", true).await;
        // Trusted by itself, it is checked like any other.
        let itself = root("verify-full", &place.file("itself.crt", &own.0));
        if error.to_string().contains("authority's own") {
            place.accepted("localhost", &itself, true).await;
            place.refused("127.0.0.1", &itself, "it is not for the name").await;
        }
    }

    place.serve(None, OPEN, "");
    for parameters in [full.as_str(), chain.as_str(), "sslmode=require"] {
        place.refused("localhost", parameters, "the server does not speak TLS").await;
    }
    place.accepted("localhost", "sslmode=prefer", false).await;
    place.accepted("localhost", "", false).await;
    place.accepted("localhost", "sslmode=allow", false).await;
}

#[tokio::test]
async fn the_servers_rules_decide_where_the_mode_leaves_it_open() {
    let place = Place::new();
    let ours = authority("ours");
    let (our_root, good) = (place.file("ours.crt", &ours.pem()), signed(&params(&["localhost"], "localhost"), &ours));
    place.serve(Some(&good), "hostnossl all all all trust\n", "");
    place.accepted("127.0.0.1", "sslmode=disable", false).await;
    place.accepted("127.0.0.1", "sslmode=prefer", false).await;
    place.refused("127.0.0.1", "sslmode=require", "no pg_hba.conf entry").await;
    place.serve(Some(&good), "hostssl all all all trust\n", "");
    place.accepted("127.0.0.1", "sslmode=allow", true).await;
    place.accepted("127.0.0.1", "sslmode=prefer", true).await;
    place.refused("127.0.0.1", "sslmode=disable", "no pg_hba.conf entry").await;

    // A client certificate in a password's place.
    let (certificate, key) = signed(&params(&[], "postgres"), &ours);
    let (strange, strange_key) = signed(&params(&[], "postgres"), &authority("another"));
    std::fs::write(place.server.data().join("clients.crt"), ours.pem()).unwrap();
    let identity = |certificate: &str, key: &str, name: &str| {
        let (certificate, key) = (place.file(&format!("{name}.crt"), certificate), place.file(&format!("{name}.key"), key));
        format!("{}&sslcert={}&sslkey={}", root("verify-full", &our_root), certificate.display(), key.display())
    };
    let (known, unknown) = (identity(&certificate, &key, "known"), identity(&strange, &strange_key, "unknown"));
    let (bob, bob_key) = signed(&params(&[], "bob"), &ours);
    let bob = identity(&bob, &bob_key, "bob");
    for rules in ["hostssl all all all cert\n", "hostssl all all all trust clientcert=verify-full\n"] {
        place.serve(Some(&good), rules, "ssl_ca_file = 'clients.crt'");
        place.accepted("localhost", &known, true).await;
        place.refused("localhost", &root("verify-full", &our_root), "requires a valid client certificate").await;
        place.refused("localhost", &unknown, "turned the client certificate down").await;
        place.refused("localhost", &bob, "").await;
    }
    std::fs::set_permissions(place.files.path().join("known.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = place.encrypted("localhost", &known).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("chmod 0600"), "{error}");
    let locked = place.file("known.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let error = place.encrypted("localhost", &known).await.unwrap_err();
    assert!(error.to_string().contains("locked with a passphrase") && error.to_string().contains(locked.to_str().unwrap()), "{error}");
}
