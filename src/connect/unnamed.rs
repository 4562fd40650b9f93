//! Prepared statements without names, for poolers that may hand every transaction to another session.
//!
//! The driver prepares statements by name and uses them later. Before a pooler in transaction mode that
//! fails: the name belongs to one session of the server, and other clients choose the same names. So each
//! message that names a statement is rewritten: it is prepared without a name, and what uses it carries the
//! text along, in one go that the pooler can't part. The answers to what was added are left out. A statement
//! whose columns have changed in between ends the connection, before a value is read as what it is not.

use std::collections::{HashMap, VecDeque};
use std::io;

use bytes::{Buf, Bytes, BytesMut};

use super::message::{Incoming, broken, put, text};

/// A statement that the driver believes to be prepared.
struct Statement {
    text: Bytes,
    /// How many parameters and of which types; once the server has told them, the same every time.
    parameters: Vec<u8>,
    columns: Option<Columns>,
}

/// Names and types of columns; none for a statement that returns no rows.
type Columns = Vec<(Vec<u8>, u32)>;

/// An answer that is due.
enum Due {
    /// The driver prepares the statement of this name.
    Prepared(Bytes),
    /// What was added before a use; the statement's columns.
    Added(Option<Columns>),
    /// The driver's own unnamed statement.
    Own,
    /// ReadyForQuery.
    Ready,
}

/// What becomes of the description that follows.
enum Description {
    PassOn,
    Note(Bytes),
    LeaveOut(Option<Columns>),
}

pub(super) struct Unnamed {
    statements: HashMap<Bytes, Statement>,
    due: VecDeque<Due>,
    description: Description,
    client: Incoming,
    server: Incoming,
    /// Syncs that a COPY swallows, and that are yet to come.
    swallowed: usize,
    pub(super) to_server: BytesMut,
    pub(super) to_client: BytesMut,
}

impl Default for Unnamed {
    fn default() -> Self {
        Self {
            statements: HashMap::new(),
            due: VecDeque::new(),
            description: Description::PassOn,
            client: Incoming::default(),
            server: Incoming::default(),
            swallowed: 0,
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
        }
    }
}

impl Unnamed {
    /// What the driver sends.
    pub(super) fn rewrite(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.bytes.extend_from_slice(bytes);
        while let Some((kind, mut message)) = self.client.next(b"PDBCSQ", &mut self.to_server)? {
            let out = &mut self.to_server;
            match kind {
                b'P' => {
                    let name = text(&mut message)?;
                    put(out, b'P', &[b"\0", &message]);
                    if name.is_empty() {
                        self.due.push_back(Due::Own);
                    } else {
                        let text = text(&mut message)?;
                        self.statements.insert(name.clone(), Statement { text, parameters: message.to_vec(), columns: None });
                        self.due.push_back(Due::Prepared(name));
                    }
                }
                b'D' | b'C' if message.first() == Some(&b'S') => {
                    message.advance(1);
                    let name = text(&mut message)?;
                    if kind == b'C' {
                        self.statements.remove(&name);
                    }
                    put(out, kind, &[b"S\0"]);
                }
                b'B' => {
                    let portal = text(&mut message)?;
                    let name = text(&mut message)?;
                    if !name.is_empty() {
                        let statement = self.statements.get(&name).ok_or_else(|| broken("a statement is used that was not prepared"))?;
                        put(out, b'P', &[b"\0", &statement.text, b"\0", &statement.parameters]);
                        put(out, b'D', &[b"S\0"]);
                        self.due.push_back(Due::Added(statement.columns.clone()));
                    }
                    put(out, b'B', &[&portal, b"\0\0", &message]);
                }
                b'S' if self.swallowed > 0 => {
                    self.swallowed -= 1;
                    put(out, b'S', &[]);
                }
                _ => {
                    put(out, kind, &[&message]);
                    if matches!(kind, b'S' | b'Q') {
                        self.due.push_back(Due::Ready);
                    }
                }
            }
        }
        Ok(())
    }

    /// What the server answers.
    pub(super) fn answered(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.server.bytes.extend_from_slice(bytes);
        while let Some((kind, message)) = self.server.next(b"1tTnEGZ", &mut self.to_client)? {
            let pass_on = match kind {
                b'1' => match self.due.pop_front() {
                    Some(Due::Prepared(name)) => {
                        self.description = Description::Note(name);
                        true
                    }
                    Some(Due::Added(columns)) => {
                        self.description = Description::LeaveOut(columns);
                        false
                    }
                    Some(Due::Own) => {
                        self.description = Description::PassOn;
                        true
                    }
                    Some(Due::Ready) | None => return Err(broken("a statement was prepared that nobody sent")),
                },
                b't' => match &self.description {
                    Description::LeaveOut(_) => false,
                    Description::Note(name) => {
                        if let Some(statement) = self.statements.get_mut(name) {
                            statement.parameters = message.to_vec();
                        }
                        true
                    }
                    Description::PassOn => true,
                },
                b'T' | b'n' => match std::mem::replace(&mut self.description, Description::PassOn) {
                    Description::PassOn => true,
                    Description::Note(name) => {
                        let columns = columns(kind, message.clone())?;
                        if let Some(statement) = self.statements.get_mut(&name) {
                            statement.columns = Some(columns);
                        }
                        true
                    }
                    Description::LeaveOut(before) => {
                        if before.is_some_and(|before| columns(kind, message.clone()).is_ok_and(|now| now != before)) {
                            return Err(broken("the columns of a prepared statement have changed; connect again"));
                        }
                        false
                    }
                },
                b'G' => {
                    // The server throws away the Sync that follows the start of a COPY.
                    match self.due.iter().position(|due| matches!(due, Due::Ready)) {
                        Some(at) => drop(self.due.remove(at)),
                        None => self.swallowed += 1,
                    }
                    true
                }
                b'Z' => {
                    while let Some(due) = self.due.pop_front() {
                        if matches!(due, Due::Ready) {
                            break;
                        }
                    }
                    self.description = Description::PassOn;
                    true
                }
                _ => {
                    self.description = Description::PassOn;
                    true
                }
            };
            if pass_on {
                put(&mut self.to_client, kind, &[&message]);
            }
        }
        Ok(())
    }
}

/// The columns of a RowDescription; `n`, NoData, has none.
fn columns(kind: u8, mut message: Bytes) -> io::Result<Columns> {
    if kind == b'n' {
        return Ok(Vec::new());
    }
    let short = || broken("a row's description ends early");
    let count = message.try_get_u16().map_err(|_| short())?;
    (0..count)
        .map(|_| {
            let name = text(&mut message)?.to_vec();
            if message.len() < 18 {
                return Err(short());
            }
            message.advance(6);
            let type_oid = message.get_u32();
            message.advance(8);
            Ok((name, type_oid))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::message::{message, number};

    fn kinds(bytes: &[u8]) -> String {
        let (mut kinds, mut rest) = (String::new(), bytes);
        while let Some((kind, after)) = rest.split_first() {
            kinds.push(char::from(*kind));
            rest = &after[number(after)..];
        }
        kinds
    }

    /// A row of one column, of this type.
    fn row_of(type_oid: u32) -> Vec<u8> {
        let oid = type_oid.to_be_bytes();
        message(b'T', &[&1u16.to_be_bytes(), b"n\0", &[0; 6], &oid, &[0; 8]])
    }

    const INT8: u32 = 20;
    const FLOAT8: u32 = 701;

    struct Talk {
        unnamed: Unnamed,
        /// Bytes that arrive at once.
        piece: usize,
    }

    impl Talk {
        /// What the server gets.
        fn client(&mut self, messages: &[Vec<u8>]) -> Vec<u8> {
            messages.concat().chunks(self.piece).for_each(|piece| self.unnamed.rewrite(piece).unwrap());
            self.unnamed.to_server.split().to_vec()
        }

        /// What the driver gets.
        fn server(&mut self, messages: &[Vec<u8>]) -> io::Result<String> {
            messages.concat().chunks(self.piece).try_for_each(|piece| self.unnamed.answered(piece))?;
            Ok(kinds(&self.unnamed.to_client.split()))
        }
    }

    fn plain(kinds: &str) -> Vec<Vec<u8>> {
        kinds.bytes().map(|kind| message(kind, &[])).collect()
    }

    #[test]
    fn statements_lose_their_names_and_answers_what_was_added() {
        let parameters = [0, 1, 0, 0, 0, 25];
        let prepare = [message(b'P', &[b"s7\0SELECT $1\0", &[0, 0]]), message(b'D', &[b"Ss7\0"]), message(b'S', &[])];
        let use_ = [message(b'B', &[b"\0s7\0", b"values"]), message(b'E', &[b"\0", &[0; 4]]), message(b'S', &[])];
        let added = [message(b'1', &[]), message(b't', &[&parameters])];
        for piece in [1, 2, 3, 7, 64, 4096] {
            let mut talk = Talk { unnamed: Unnamed::default(), piece };
            let sent = talk.client(&prepare);
            assert_eq!(sent, [message(b'P', &[b"\0SELECT $1\0", &[0, 0]]), message(b'D', &[b"S\0"]), message(b'S', &[])].concat());
            let answer = [&added[..], &[row_of(INT8)], &plain("Z")].concat();
            assert_eq!(talk.server(&answer).unwrap(), "1tTZ");

            // Its types go with it, so that its parameters mean the same every time.
            let sent = talk.client(&use_);
            let expected = [
                message(b'P', &[b"\0SELECT $1\0", &parameters]),
                message(b'D', &[b"S\0"]),
                message(b'B', &[b"\0\0", b"values"]),
                use_[1].clone(),
                use_[2].clone(),
            ];
            assert_eq!(sent, expected.concat());
            let answer = [&added[..], &[row_of(INT8)], &plain("2DCZ")].concat();
            assert_eq!(talk.server(&answer).unwrap(), "2DCZ");

            // Errors, wherever they come, end at ReadyForQuery; several requests may be under way.
            talk.client(&[&use_[..], &use_, &plain("Q"), &use_].concat());
            assert_eq!(talk.server(&plain("EZ")).unwrap(), "EZ");
            assert_eq!(talk.server(&[&added[..], &plain("EZ"), &plain("CZ")].concat()).unwrap(), "EZCZ");
            assert_eq!(talk.server(&answer).unwrap(), "2DCZ");

            // A COPY swallows the Sync behind its start.
            talk.client(&use_);
            assert_eq!(talk.server(&[&added[..], &plain("n2G")].concat()).unwrap_or_default(), "", "other columns than before");
            let mut talk = Talk { unnamed: Unnamed::default(), piece };
            talk.client(&prepare);
            talk.server(&[&added[..], &plain("nZ")].concat()).unwrap();
            talk.client(&use_);
            assert_eq!(talk.server(&[&added[..], &plain("n2G")].concat()).unwrap(), "2G");
            assert_eq!(kinds(&talk.client(&plain("dddcS"))), "dddcS");
            talk.client(&use_);
            assert_eq!(talk.server(&plain("CZ")).unwrap(), "CZ");
            assert_eq!(talk.server(&[&added[..], &plain("n2CZ")].concat()).unwrap(), "2CZ");

            // The driver's own unnamed statements are left alone, and a name is forgotten when it is closed.
            talk.client(&[message(b'P', &[b"\0SELECT\0", &[0, 0]]), message(b'B', &[b"\0\0"]), message(b'S', &[])]);
            assert_eq!(talk.server(&plain("12nCZ")).unwrap(), "12nCZ");
            assert_eq!(
                talk.client(&[message(b'C', &[b"Ss7\0"]), message(b'S', &[])]),
                [message(b'C', &[b"S\0"]), message(b'S', &[])].concat()
            );
            assert_eq!(talk.server(&plain("3Z")).unwrap(), "3Z");
            assert!(talk.unnamed.statements.is_empty() && talk.unnamed.due.is_empty());
            assert!(talk.unnamed.rewrite(&use_.concat()).is_err());
        }
    }

    #[test]
    fn columns_that_changed_end_the_connection() {
        for (now, good) in [(row_of(INT8), true), (row_of(FLOAT8), false), (message(b'n', &[]), false)] {
            let mut talk = Talk { unnamed: Unnamed::default(), piece: 5 };
            talk.client(&[message(b'P', &[b"s\0SELECT n\0", &[0, 0]]), message(b'D', &[b"Ss\0"]), message(b'S', &[])]);
            talk.server(&[plain("1"), vec![message(b't', &[&[0, 0]]), row_of(INT8)], plain("Z")].concat()).unwrap();
            talk.client(&[message(b'B', &[b"\0s\0"]), message(b'S', &[])]);
            let answer = talk.server(&[plain("1"), vec![message(b't', &[&[0, 0]]), now], plain("2CZ")].concat());
            assert_eq!(answer.is_ok(), good);
        }
        assert!(Unnamed::default().answered(&[b'1', 0, 0, 0, 1]).is_err(), "shorter than its own length");
        assert!(Unnamed::default().answered(&message(b'1', &[])).is_err(), "nobody asked");
        assert!(Unnamed::default().rewrite(&message(b'B', &[b"no end"])).is_err());
    }
}
