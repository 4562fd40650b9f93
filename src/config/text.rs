//! A connection string, in either of its two forms, taken apart.

use std::collections::BTreeMap;

/// Parameters by name; of one that is given twice the last counts, as in libpq.
pub(super) type Parameters = BTreeMap<String, String>;

/// Reads `postgresql://...` or `key=value ...`. What is wrong is told without repeating the text, which
/// may hold a password.
pub(super) fn parse(text: &str) -> Result<Parameters, String> {
    match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => url(rest),
        None => pairs(text),
    }
}

fn url(rest: &str) -> Result<Parameters, String> {
    let mut parameters = Parameters::new();
    let mut put = |key: &str, value: String| parameters.insert(key.to_owned(), value);
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (authority, database) = rest.split_once('/').map_or((rest, ""), |(authority, database)| (authority, database));
    // A password with a bare / would go on in the database's name, and be shown with it.
    if database.contains('@') {
        return Err("it has an @ behind a /; write %2F for a / in the password, and %40 for an @ in the database's name".to_owned());
    }
    let hosts = match authority.split_once('@') {
        Some((_, hosts)) if hosts.contains('@') => {
            return Err("it has more than one @; write %40 for an @ in the password".to_owned());
        }
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
            if !user.is_empty() {
                put("user", decoded(user)?);
            }
            if let Some(password) = password.filter(|p| !p.is_empty()) {
                put("password", decoded(password)?);
            }
            hosts
        }
        None => authority,
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']').ok_or("an address that begins with [ must end with ]")?;
                (name, rest.strip_prefix(':').unwrap_or(rest))
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decoded(name)?);
        ports.push(decoded(port)?);
    }
    if names.iter().any(|name| !name.is_empty()) {
        put("host", names.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        put("port", ports.join(","));
    }
    if !database.is_empty() {
        put("dbname", decoded(database)?);
    }
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("a parameter after the ? has no =")?;
        put(&decoded(key)?, decoded(value)?);
    }
    Ok(parameters)
}

/// Undoes `%XX`.
fn decoded(text: &str) -> Result<String, String> {
    let broken = || "it has a % that no two hexadecimal digits follow; write %25 for a %".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit().ok_or_else(broken)?, digit().ok_or_else(broken)?);
        bytes.push((high * 16 + low) as u8);
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err("its %XX stand for something that is no text in UTF-8".to_owned()),
    }
}

fn pairs(text: &str) -> Result<Parameters, String> {
    let mut parameters = Parameters::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).ok_or("a key has no =")?;
        let (key, after) = rest.split_at(end);
        let after = after.trim_start().strip_prefix('=').ok_or("a key has no =")?.trim_start();
        if key.is_empty() {
            return Err("a = has no key before it".to_owned());
        }
        let (value, after) = value(after)?;
        parameters.insert(key.to_owned(), value);
        rest = after.trim_start();
    }
    Ok(parameters)
}

/// A value, in quotes or up to the next space; `\` takes the character after it as it is.
fn value(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if c.is_whitespace() && !quoted => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted { Err("a value in quotes has no end".to_owned()) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match parse(text) {
            Ok(parameters) => parameters.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "),
            Err(why) => format!("! {why}"),
        }
    }

    #[test]
    fn urls_are_taken_apart_as_libpq_does() {
        for (text, expected) in [
            ("postgresql://", ""),
            ("postgres://h", "host=h"),
            ("postgresql://ann:s%40c%2F@h:1/db", "dbname=db host=h password=s@c/ port=1 user=ann"),
            (
                "postgresql://h1:1,h2,[::1]:3/db?target_session_attrs=read-write",
                "dbname=db host=h1,h2,::1 port=1,,3 target_session_attrs=read-write",
            ),
            ("postgresql:///db?host=/run/pg,b&port=5", "dbname=db host=/run/pg,b port=5"),
            ("postgresql://%2Frun%2Fpg/db", "dbname=db host=/run/pg"),
            ("postgresql://h?application_name=a%20b&x=", "application_name=a b host=h x="),
            ("postgresql://h/a/b", "dbname=a/b host=h"),
            ("postgresql://a@b@h/x", "! it has more than one @; write %40 for an @ in the password"),
            (
                "postgresql://ann:80/secret@h/x",
                "! it has an @ behind a /; write %2F for a / in the password, and %40 for an @ in the database's name",
            ),
            ("postgresql://ann:100%@h/x", "! it has a % that no two hexadecimal digits follow; write %25 for a %"),
            ("postgresql://h/x?y", "! a parameter after the ? has no ="),
            ("postgresql://[::1/x", "! an address that begins with [ must end with ]"),
            ("postgresql://ann:%ff@h", "! its %XX stand for something that is no text in UTF-8"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn pairs_are_taken_apart_as_libpq_does() {
        for (text, expected) in [
            ("host=h port = 5 user=ann", "host=h port=5 user=ann"),
            (r"password='it\'s a \\' host=h", r"host=h password=it's a \"),
            (r"password=a\ b host=h", "host=h password=a b"),
            ("password=a://b host=''", "host= password=a://b"),
            ("host", "! a key has no ="),
            ("password='x", "! a value in quotes has no end"),
            ("=x", "! a = has no key before it"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }
}
