//! Where a password comes from when none is given outright.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// A password that no `Debug` prints.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Where to look, at every connection anew: a secret may be changed while the program runs.
#[derive(Clone, Debug)]
pub(crate) enum Password {
    /// It stands in the URL or in `PGPASSWORD`.
    Given(Secret),
    /// It is what a file holds.
    File(PathBuf),
    /// It stands in a password file, by host, port, database and user; `true` where that file was named
    /// and must not be missing.
    Passfile(PathBuf, bool),
    /// There is none.
    None,
}

impl Password {
    /// The password for a login.
    ///
    /// # Errors
    /// `Config` when the file that is to hold it can't be read.
    pub(crate) fn find(&self, host: &str, port: u16, database: &str, user: &str) -> Result<Option<Secret>> {
        match self {
            Self::Given(secret) => Ok(Some(secret.clone())),
            Self::File(path) => whole_file(path).map(Some),
            Self::Passfile(path, named) => passfile(path, *named, [host, &port.to_string(), database, user]),
            Self::None => Ok(None),
        }
    }
}

/// A file's content without its last line break.
fn whole_file(path: &Path) -> Result<Secret> {
    let failed = |why: String| Error::new(ErrorKind::Config, format!("the password file {} {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| failed(format!("can't be read: {}", e.kind())))?;
    let password = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    if password.is_empty() || password.contains(['\n', '\0']) {
        return Err(failed("must hold one line, the password and nothing else".to_owned()));
    }
    Ok(Secret(password.to_owned()))
}

fn passfile(path: &Path, named: bool, login: [&str; 4]) -> Result<Option<Secret>> {
    let Ok(metadata) = std::fs::metadata(path) else {
        if named {
            tracing::warn!("there is no password file {}; going on without a password", path.display());
        }
        return Ok(None);
    };
    // As in libpq: a file that others can read is as good as none.
    if !metadata.is_file() {
        tracing::warn!("the password file {} is not a plain file and was not used", path.display());
        return Ok(None);
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077 != 0 {
        tracing::warn!("the password file {0} can be read by others and was not used; run: chmod 0600 {0}", path.display());
        return Ok(None);
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().find_map(|line| matching(line, login)).map(Secret)),
        Err(e) => {
            tracing::warn!("the password file {} can't be read: {}", path.display(), e.kind());
            Ok(None)
        }
    }
}

/// The password of a line `host:port:database:user:password`, if it is for this login. A field may be
/// `*`; `\` takes the character after it as it is.
fn matching(line: &str, login: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in login {
        let (field, after) = field(rest)?;
        if rest.strip_prefix("*:").is_none() && field != wanted {
            return None;
        }
        rest = after;
    }
    let mut chars = rest.chars();
    let mut password = String::new();
    while let Some(c) = chars.next() {
        password.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    (!password.is_empty()).then_some(password)
}

fn field(text: &str) -> Option<(String, &str)> {
    let (mut field, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return Some((field, &text[at + 1..])),
            '\\' => field.extend(chars.next().map(|(_, c)| c)),
            c => field.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: [&str; 4] = ["db.example", "5432", "market", "ann"];

    #[test]
    fn lines_match_as_in_libpq() {
        for (line, expected) in [
            ("db.example:5432:market:ann:secret", Some("secret")),
            ("*:*:*:*:secret", Some("secret")),
            ("*:*:*:ann:with:colon", Some("with:colon")),
            (r"*:*:*:ann:with\:colon and \\", Some(r"with:colon and \")),
            (r"db\.example:*:*:*:s", Some("s")),
            ("db.example:5432:market:bob:secret", None),
            ("db.example:5433:market:ann:secret", None),
            (r"\*:*:*:*:secret", None),
            ("# *:*:*:*:secret", None),
            ("*:*:*:*:", None),
            ("*:*:*", None),
            ("", None),
        ] {
            assert_eq!(matching(line, LOGIN).as_deref(), expected, "{line}");
        }
        assert_eq!(matching(r"::1:*:*:*:s", LOGIN), None);
        assert_eq!(matching(r"\:\:1:*:*:*:s", ["::1", "1", "d", "u"]).as_deref(), Some("s"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("hitherto-passfile-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("pgpass");
        std::fs::write(&path, "other:*:*:*:no\n*:*:*:ann:first\n*:*:*:*:second\n").unwrap();
        let found = |mode: u32| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let password = Password::Passfile(path.clone(), true);
            password.find("h", 5432, "d", "ann").unwrap().map(|secret| secret.0)
        };
        assert_eq!(found(0o600).as_deref(), Some("first"));
        assert_eq!(found(0o640), None);
        assert_eq!(found(0o604), None);
        assert_eq!(format!("{:?}", Password::Given(Secret("canary".to_owned()))), "Given(_)");
        for (content, expected) in
            [("s p\n", Some("s p")), ("s", Some("s")), ("s\r\n", Some("s")), ("", None), ("\n", None), ("a\nb\n", None)]
        {
            std::fs::write(&path, content).unwrap();
            let password = Password::File(path.clone()).find("h", 1, "d", "u");
            assert_eq!(password.ok().flatten().map(|secret| secret.0).as_deref(), expected, "{content:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(Password::File(path.clone()).find("h", 1, "d", "u").is_err());
        assert!(Password::Passfile(path, true).find("h", 1, "d", "u").unwrap().is_none());
    }
}
