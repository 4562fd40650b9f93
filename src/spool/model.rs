//! A file system for tests that forgets what was not synced, and fails where it is told to.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::files::{Data, Files};

type Id = usize;

#[derive(Clone, Default)]
struct Content {
    /// What a crash leaves for sure.
    durable: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// What happened since the last sync, oldest first.
    loose: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>, length: usize) {
        match self {
            Self::Write(at, bytes) => {
                let (at, bytes) = (*at as usize, &bytes[..length.min(bytes.len())]);
                to.resize(to.len().max(at + bytes.len()), 0);
                to[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(length) => to.resize(*length as usize, 0),
        }
    }
}

#[derive(Clone)]
enum Rename {
    Set(PathBuf, Id),
    Clear(PathBuf),
}

impl Rename {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Id>) {
        match self {
            Self::Set(path, id) => drop(names.insert(path.clone(), *id)),
            Self::Clear(path) => drop(names.remove(path)),
        }
    }
}

/// What goes wrong at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The machine goes down; every step from there on fails.
    Crash,
    /// This step, if it is a sync, fails, and what it was to sync is forgotten sooner or later.
    SyncFails,
    /// From this step on there is no room for new files.
    Full,
}

#[derive(Clone, Default)]
struct State {
    content: Vec<Content>,
    durable_names: BTreeMap<PathBuf, Id>,
    names: BTreeMap<PathBuf, Id>,
    /// Names given and taken since the last sync of the folder; with a rename both at once.
    loose_names: Vec<Vec<Rename>>,
    steps: usize,
    trouble: Option<(usize, Trouble)>,
    crashed: bool,
    full: bool,
}

/// The file system. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Model {
    state: Arc<Mutex<State>>,
}

impl Model {
    pub(super) fn trouble_at(&self, step: usize, trouble: Trouble) {
        self.lock().trouble = Some((step, trouble));
    }

    pub(super) fn steps(&self) -> usize {
        self.lock().steps
    }

    pub(super) fn room_is_back(&self) {
        let mut state = self.lock();
        (state.full, state.trouble) = (false, None);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What is there after the machine came up again: of what was not synced, some, none or all, as the seed
    /// says; the last write of a file, if it is kept, cut after `torn` bytes.
    pub(super) fn after_crash(&self, seed: u64, torn: Option<usize>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let keep_all = [Some(false), Some(true), None][(seed % 3) as usize];
        let mut keep = |p: f64| keep_all.unwrap_or_else(|| random.random_bool(p));
        let mut state = self.lock().clone();
        for content in &mut state.content {
            let (count, mut left) = (content.loose.len(), content.durable.clone());
            for (place, change) in content.loose.iter().enumerate() {
                let last = place + 1 == count;
                match torn.filter(|_| last) {
                    Some(torn) => change.apply(&mut left, torn),
                    None if keep(0.5) => change.apply(&mut left, usize::MAX),
                    None => {}
                }
            }
            *content = Content { durable: left.clone(), seen: left, loose: Vec::new() };
        }
        // A journal keeps changes of names in their order.
        let mut names = state.durable_names.clone();
        for change in &state.loose_names {
            if !keep(0.7) {
                break;
            }
            change.iter().for_each(|rename| rename.apply(&mut names));
        }
        (state.durable_names, state.names) = (names.clone(), names);
        (state.loose_names, state.trouble, state.crashed, state.steps) = (Vec::new(), None, false, 0);
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The longest write that no sync has followed.
    pub(super) fn loose_bytes(&self) -> usize {
        let state = self.lock();
        let last = state.content.iter().filter_map(|content| content.loose.last());
        last.map(|change| if let Change::Write(_, bytes) = change { bytes.len() } else { 0 }).max().unwrap_or(0)
    }

    /// Spoils bytes of a file, as a disk does.
    pub(super) fn spoil(&self, path: &Path, at: usize, bytes: usize) {
        let mut state = self.lock();
        let id = state.names[path];
        let content = &mut state.content[id];
        for vector in [&mut content.durable, &mut content.seen] {
            vector[at..at + bytes].iter_mut().for_each(|b| *b ^= 0xa5);
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().names.keys().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect()
    }

    pub(super) fn length_of(&self, path: &Path) -> usize {
        let state = self.lock();
        state.content[state.names[path]].seen.len()
    }

    /// Counts a step, and lets happen what is to happen at it.
    fn step(&self) -> Result<(MutexGuard<'_, State>, Option<Trouble>)> {
        let mut state = self.lock();
        if state.crashed {
            return Err(Error::other("the machine is down"));
        }
        let now = state.steps;
        state.steps += 1;
        let trouble = state.trouble.filter(|(at, _)| *at == now).map(|(_, trouble)| trouble);
        match trouble {
            Some(Trouble::Crash) => state.crashed = true,
            Some(Trouble::Full) => state.full = true,
            _ => {}
        }
        Ok((state, trouble))
    }
}

fn down() -> Error {
    Error::other("the machine went down")
}

fn missing() -> Error {
    Error::from(ErrorKind::NotFound)
}

impl Files for Model {
    fn create_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>> {
        let (state, _) = self.step()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create(&self, path: &Path, length: u64) -> Result<Box<dyn Data>> {
        let (mut state, trouble) = self.step()?;
        if state.full {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        if state.names.contains_key(path) {
            return Err(Error::from(ErrorKind::AlreadyExists));
        }
        let id = state.content.len();
        let zeros = Change::Truncate(length);
        state.content.push(Content { durable: Vec::new(), seen: vec![0; length as usize], loose: vec![zeros] });
        state.names.insert(path.to_owned(), id);
        state.loose_names.push(vec![Rename::Set(path.to_owned(), id)]);
        if trouble == Some(Trouble::Crash) {
            return Err(down());
        }
        drop(state);
        Ok(Box::new(OpenFile { model: self.clone(), id }))
    }

    fn open(&self, path: &Path, _: bool) -> Result<Box<dyn Data>> {
        let (state, _) = self.step()?;
        let id = *state.names.get(path).ok_or_else(missing)?;
        drop(state);
        Ok(Box::new(OpenFile { model: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (mut state, trouble) = self.step()?;
        let id = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.to_owned(), id);
        state.loose_names.push(vec![Rename::Clear(from.to_owned()), Rename::Set(to.to_owned(), id)]);
        if trouble == Some(Trouble::Crash) { Err(down()) } else { Ok(()) }
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        let (mut state, trouble) = self.step()?;
        if state.names.contains_key(to) {
            return Err(Error::from(ErrorKind::AlreadyExists));
        }
        let id = *state.names.get(from).ok_or_else(missing)?;
        state.names.insert(to.to_owned(), id);
        state.loose_names.push(vec![Rename::Set(to.to_owned(), id)]);
        if trouble == Some(Trouble::Crash) { Err(down()) } else { Ok(()) }
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        let (mut state, trouble) = self.step()?;
        state.names.remove(path).ok_or_else(missing)?;
        state.loose_names.push(vec![Rename::Clear(path.to_owned())]);
        if trouble == Some(Trouble::Crash) { Err(down()) } else { Ok(()) }
    }

    fn sync_folder(&self, _: &Path) -> Result<()> {
        let (mut state, trouble) = self.step()?;
        match trouble {
            Some(Trouble::Crash) => Err(down()),
            Some(Trouble::SyncFails) => Err(Error::other("the disk does not answer")),
            _ => {
                state.durable_names = state.names.clone();
                state.loose_names.clear();
                Ok(())
            }
        }
    }
}

struct OpenFile {
    model: Model,
    id: Id,
}

impl OpenFile {
    fn change(&self, change: Change) -> Result<()> {
        let (mut state, trouble) = self.model.step()?;
        let content = &mut state.content[self.id];
        change.apply(&mut content.seen, usize::MAX);
        content.loose.push(change);
        if trouble == Some(Trouble::Crash) { Err(down()) } else { Ok(()) }
    }
}

impl Data for OpenFile {
    fn read_at(&self, to: &mut [u8], offset: u64) -> Result<usize> {
        let (state, _) = self.model.step()?;
        let seen = &state.content[self.id].seen;
        let rest = &seen[(offset as usize).min(seen.len())..];
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.change(Change::Write(offset, bytes.to_vec()))
    }

    fn sync(&self) -> Result<()> {
        let (mut state, trouble) = self.model.step()?;
        let content = &mut state.content[self.id];
        match trouble {
            Some(Trouble::Crash) => Err(down()),
            Some(Trouble::SyncFails) => {
                // The pages count as clean now, and no later sync writes them. Readers see them until they go.
                content.loose.clear();
                Err(Error::other("the disk does not answer"))
            }
            _ => {
                for change in std::mem::take(&mut content.loose) {
                    change.apply(&mut content.durable, usize::MAX);
                }
                Ok(())
            }
        }
    }

    fn truncate(&self, length: u64) -> Result<()> {
        self.change(Change::Truncate(length))
    }

    fn length(&self) -> Result<u64> {
        let (state, _) = self.model.step()?;
        Ok(state.content[self.id].seen.len() as u64)
    }
}
