//! A disk that loses its power: what a process asked of a directory, and what may be left of that.
//!
//! Only what a sync promises is certain, as the strictest reading of POSIX has it: a file's bytes
//! and length once a sync of the file, begun after they were written, has ended; a name once a sync
//! of its directory has. Of everything later any part may be on the disk, in any order, and of one
//! write any of its sectors. `sync_file_range` promises nothing. A rename is never half done: a file
//! that has lost its old name has the new one.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::trace::Call;
use crate::random::Random;

const SECTOR_BYTES: u64 = 512;

/// What strace has to write down.
///
/// Those with a question mark are not on every architecture.
pub const CALLS: &str = "?open,openat,?creat,close,read,readv,lseek,write,writev,pwrite64,pwritev,\
    pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,sync,syncfs,?rename,renameat,renameat2,\
    ?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,?mkdir,mkdirat,copy_file_range,sendfile,\
    splice,dup,?dup2,dup3";

type Number = usize;

/// A change of a file or a directory, on the disk for certain from a line of the trace on.
#[derive(Debug)]
struct Change<T> {
    began: usize,
    ended: usize,
    certain: usize,
    what: T,
}

#[derive(Debug)]
enum OfFile {
    Write { at: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Debug)]
enum OfDir {
    Put {
        name: String,
        node: Number,
    },
    Remove {
        name: String,
    },
    /// Within the directory.
    Rename {
        from: String,
        to: String,
        node: Number,
    },
    /// The old name of what was renamed into another directory, by this change of that one.
    MovedTo {
        name: String,
        dir: Number,
        change: usize,
    },
}

#[derive(Debug, Default)]
struct Node {
    is_dir: bool,
    of_file: Vec<Change<OfFile>>,
    of_dir: Vec<Change<OfDir>>,
    /// As the process sees a directory.
    names: BTreeMap<String, Number>,
}

#[derive(Debug)]
struct Descriptor {
    node: Number,
    at: u64,
    opened: usize,
}

/// What happened below a directory.
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    open: HashMap<i64, Descriptor>,
    /// Lines of the trace at which something began or ended.
    moments: Vec<usize>,
    /// What the process printed, by the line in which that began.
    printed: Vec<(usize, String)>,
}

impl Disk {
    /// Follows what a process did below an empty directory, which is there for certain.
    pub fn follow(calls: &[Call], root: &Path) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            nodes: vec![Node { is_dir: true, ..Node::default() }],
            open: HashMap::new(),
            moments: Vec::new(),
            printed: Vec::new(),
        };
        calls.iter().for_each(|call| disk.take(call));
        disk.moments.sort_unstable();
        disk.moments.dedup();
        disk
    }

    pub fn moments(&self) -> &[usize] {
        &self.moments
    }

    /// Lines that were printed, or begun to be, before a moment.
    pub fn printed_before(&self, moment: usize) -> impl Iterator<Item = &str> {
        let before = self.printed.iter().filter(move |(began, _)| *began < moment);
        before.flat_map(|(_, text)| text.lines())
    }

    fn take(&mut self, call: &Call) {
        match call.name.as_str() {
            "write" if call.number(0) == 1 => {
                let text = String::from_utf8(call.bytes(1)).expect("it prints UTF-8");
                self.printed.push((call.began, text));
                return;
            }
            // A failed sync promises nothing, a call that never ended may have done anything.
            _ if call.result < 0 && !matches!(call.name.as_str(), "pwrite64" | "write") => return,
            "open" | "creat" => return self.opened(call, 0),
            "openat" => return self.opened(call, 1),
            "mkdir" | "mkdirat" => {
                let arg = usize::from(call.name == "mkdirat");
                let Some((dir, name)) = self.place(&call.path(arg)) else { return };
                let node = self.add(true);
                self.put(call, dir, name, node);
            }
            "rename" => self.renamed(call, 0, 1),
            "renameat" | "renameat2" => self.renamed(call, 1, 3),
            "unlink" | "rmdir" => self.unlinked(call, 0),
            "unlinkat" => self.unlinked(call, 1),
            _ => return self.on_descriptor(call),
        }
        self.moments.extend([call.began, call.ended]);
    }

    fn on_descriptor(&mut self, call: &Call) {
        let descriptor = call.number(0);
        if call.name == "close" {
            // Before a closing has ended, another thread may have been given the number.
            if self.open.get(&descriptor).is_some_and(|open| open.opened < call.began) {
                self.open.remove(&descriptor);
            }
            return;
        }
        let Some(Descriptor { node, at, .. }) = self.open.get_mut(&descriptor) else {
            let path = call.described(0);
            assert!(!Path::new(&path).starts_with(&self.root), "not followed: {path}: {call:?}");
            return;
        };
        let (node, length) = (*node, u64::try_from(call.result).unwrap_or(0));
        let what = match call.name.as_str() {
            "read" => return *at += length,
            "lseek" => return *at = length,
            "write" => {
                let what = OfFile::Write { at: *at, bytes: call.bytes(1) };
                *at += length;
                what
            }
            "pwrite64" => {
                OfFile::Write { at: call.number(3).cast_unsigned(), bytes: call.bytes(1) }
            }
            "ftruncate" => OfFile::Length(call.number(1).cast_unsigned()),
            "fsync" | "fdatasync" => {
                self.moments.extend([call.began, call.ended]);
                return self.synced(call, node);
            }
            _ => panic!("not followed: {call:?}"),
        };
        self.moments.extend([call.began, call.ended]);
        let (began, ended) = (call.began, call.ended);
        self.nodes[node].of_file.push(Change { began, ended, certain: usize::MAX, what });
    }

    fn synced(&mut self, call: &Call, node: Number) {
        let node = &mut self.nodes[node];
        for change in &mut node.of_file {
            if change.ended < call.began {
                change.certain = change.certain.min(call.ended);
            }
        }
        for change in &mut node.of_dir {
            if change.ended < call.began {
                change.certain = change.certain.min(call.ended);
            }
        }
    }

    fn opened(&mut self, call: &Call, arg: usize) {
        let Some((dir, name)) = self.place(&call.path(arg)) else {
            if Path::new(&call.path(arg)) == self.root {
                self.open.insert(call.result, Descriptor { node: 0, at: 0, opened: call.ended });
            }
            return;
        };
        let flags = call.args.get(arg + 1).map_or("O_TRUNC", String::as_str);
        assert!(!flags.contains("O_APPEND") && !flags.contains("SYNC"), "not followed: {call:?}");
        let node = match self.nodes[dir].names.get(&name) {
            Some(node) => *node,
            None => {
                let node = self.add(false);
                self.put(call, dir, name, node);
                self.moments.extend([call.began, call.ended]);
                node
            }
        };
        if flags.contains("O_TRUNC") {
            let (began, ended, what) = (call.began, call.ended, OfFile::Length(0));
            self.nodes[node].of_file.push(Change { began, ended, certain: usize::MAX, what });
        }
        self.open.insert(call.result, Descriptor { node, at: 0, opened: call.ended });
    }

    fn renamed(&mut self, call: &Call, from: usize, to: usize) {
        let (from, to) = (self.place(&call.path(from)), self.place(&call.path(to)));
        let (Some((from_dir, from)), Some((dir, to))) = (from, to) else { return };
        let node = self.nodes[from_dir].names.remove(&from).expect("it was there");
        self.nodes[dir].names.insert(to.clone(), node);
        if from_dir == dir {
            self.change_dir(call, dir, OfDir::Rename { from, to, node });
        } else {
            let change = self.nodes[dir].of_dir.len();
            self.change_dir(call, dir, OfDir::Put { name: to, node });
            self.change_dir(call, from_dir, OfDir::MovedTo { name: from, dir, change });
        }
    }

    fn unlinked(&mut self, call: &Call, arg: usize) {
        // Whole trees are removed by names within open directories.
        let path = PathBuf::from(call.path(arg));
        let path =
            if path.is_absolute() { path } else { PathBuf::from(call.described(0)).join(path) };
        let Some((dir, name)) = self.place(path.to_str().expect("paths are UTF-8")) else { return };
        self.nodes[dir].names.remove(&name).expect("it was there");
        self.change_dir(call, dir, OfDir::Remove { name });
    }

    fn put(&mut self, call: &Call, dir: Number, name: String, node: Number) {
        self.nodes[dir].names.insert(name.clone(), node);
        self.change_dir(call, dir, OfDir::Put { name, node });
    }

    fn change_dir(&mut self, call: &Call, dir: Number, what: OfDir) {
        let (began, ended) = (call.began, call.ended);
        self.nodes[dir].of_dir.push(Change { began, ended, certain: usize::MAX, what });
    }

    fn add(&mut self, is_dir: bool) -> Number {
        self.nodes.push(Node { is_dir, ..Node::default() });
        self.nodes.len() - 1
    }

    /// The directory and name of a path below the root.
    fn place(&self, path: &str) -> Option<(Number, String)> {
        let path = Path::new(path).strip_prefix(&self.root).ok()?;
        let name = path.file_name()?.to_str().expect("paths are UTF-8").to_owned();
        let parents = path.parent().expect("it has a name").iter();
        let dir = parents.fold(0, |dir, name| {
            let name = name.to_str().expect("paths are UTF-8");
            *self.nodes[dir]
                .names
                .get(name)
                .unwrap_or_else(|| panic!("{} has no parent", path.display()))
        });
        Some((dir, name))
    }

    /// Puts at `to`, an empty directory, what a power loss at a moment may leave; with chance
    /// nothing lost, what the process itself would see.
    pub fn image(&self, moment: usize, to: &Path, chance: &mut Chance) {
        let mut kept = HashMap::new();
        self.write_dir(0, moment, to, chance, &mut kept);
    }

    fn write_dir(
        &self,
        node: Number,
        moment: usize,
        to: &Path,
        chance: &mut Chance,
        kept: &mut HashMap<(Number, usize), bool>,
    ) {
        let mut names: BTreeMap<&str, Number> = BTreeMap::new();
        for (number, change) in self.nodes[node].of_dir.iter().enumerate() {
            if change.began >= moment || !self.keeps(node, number, moment, chance, kept) {
                continue;
            }
            match &change.what {
                OfDir::Put { name, node } => {
                    names.insert(name, *node);
                }
                OfDir::Remove { name } | OfDir::MovedTo { name, .. } => {
                    names.remove(name.as_str());
                }
                OfDir::Rename { from, to, node } => {
                    names.remove(from.as_str());
                    names.insert(to, *node);
                }
            }
        }
        for (name, node) in names {
            let path = to.join(name);
            if self.nodes[node].is_dir {
                fs::create_dir(&path).expect("a directory can be made");
                self.write_dir(node, moment, &path, chance, kept);
            } else {
                self.write_file(node, moment, &path, chance);
            }
        }
    }

    /// Whether a change of a directory is on the disk; drawn once.
    fn keeps(
        &self,
        node: Number,
        number: usize,
        moment: usize,
        chance: &mut Chance,
        kept: &mut HashMap<(Number, usize), bool>,
    ) -> bool {
        if let Some(kept) = kept.get(&(node, number)) {
            return *kept;
        }
        let change = &self.nodes[node].of_dir[number];
        let mut keeps = change.certain < moment || chance.keeps_name();
        if let OfDir::MovedTo { dir, change, .. } = change.what {
            keeps = keeps && self.keeps(dir, change, moment, chance, kept);
        }
        kept.insert((node, number), keeps);
        keeps
    }

    fn write_file(&self, node: Number, moment: usize, path: &Path, chance: &mut Chance) {
        let changes = &self.nodes[node].of_file;
        let ends = changes.iter().map(|change| match &change.what {
            OfFile::Length(length) => *length as usize,
            OfFile::Write { at, bytes } => *at as usize + bytes.len(),
        });
        let mut content = Content { bytes: vec![0; ends.max().unwrap_or(0)], length: 0 };
        for change in changes.iter().filter(|change| change.began < moment) {
            let certain = change.certain < moment;
            match &change.what {
                OfFile::Length(length) if certain || chance.keeps() => {
                    content.set_length(*length as usize);
                }
                OfFile::Length(_) => {}
                OfFile::Write { at, bytes: new } => {
                    let sectors = if certain { Sectors::All } else { chance.sectors(*at, new) };
                    content.write(*at as usize, new, sectors, chance);
                }
            }
        }
        content.save(path);
    }
}

/// A file while it is put together.
struct Content {
    /// Zeros after its length.
    bytes: Vec<u8>,
    length: usize,
}

impl Content {
    fn set_length(&mut self, length: usize) {
        if length < self.length {
            self.bytes[length..self.length].fill(0);
        }
        self.length = length;
    }

    fn write(&mut self, at: usize, new: &[u8], sectors: Sectors, chance: &mut Chance) {
        if matches!(sectors, Sectors::None { longer: false }) || new.is_empty() {
            return;
        }
        let end = at + new.len();
        if self.length < end {
            // A hole before it is zeros.
            let fresh = self.length.max(at);
            if let Some(garbage) = chance.garbage(end - fresh) {
                self.bytes[fresh..end].copy_from_slice(&garbage);
            }
            self.length = end;
        }
        match sectors {
            Sectors::All => self.bytes[at..end].copy_from_slice(new),
            Sectors::None { .. } => {}
            Sectors::Some(sectors) => {
                let first = at as u64 / SECTOR_BYTES;
                for (number, _) in sectors.into_iter().enumerate().filter(|(_, kept)| *kept) {
                    let start = ((first + number as u64) * SECTOR_BYTES) as usize;
                    let range = start.max(at)..(start + SECTOR_BYTES as usize).min(end);
                    let part = &new[range.start - at..range.end - at];
                    self.bytes[range].copy_from_slice(part);
                }
            }
        }
    }

    /// Holes stay holes.
    fn save(&self, path: &Path) {
        const ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];
        let file = File::create(path).expect("a file can be made");
        for (number, piece) in self.bytes[..self.length].chunks(PIECE_BYTES).enumerate() {
            if piece != &ZEROS[..piece.len()] {
                let at = (number * PIECE_BYTES) as u64;
                file.write_all_at(piece, at).expect("it can be written");
            }
        }
        file.set_len(self.length as u64).expect("it can be made longer");
    }
}

const PIECE_BYTES: usize = 16 * 1024;

/// Which sectors of a write are on the disk.
enum Sectors {
    All,
    /// None; whether the file became as long as if.
    None {
        longer: bool,
    },
    Some(Vec<bool>),
}

/// How much of what is not certain a power loss takes.
#[derive(Debug)]
pub struct Chance {
    random: Random,
    /// Of 100 uncertain writes, and names.
    kept: u64,
    names_kept: u64,
    torn: bool,
    garbage: bool,
}

impl Chance {
    pub fn new(mut random: Random) -> Self {
        let mut percent = || match random.of(0..5) {
            0 => 0,
            1 => 100,
            2 => 95,
            _ => random.of(0..101),
        };
        let (kept, names_kept) = (percent(), percent());
        let (torn, garbage) = (random.one_in(2), random.one_in(6));
        Self { random, kept, names_kept, torn, garbage }
    }

    pub fn nothing_lost() -> Self {
        Self { random: Random::new(0), kept: 100, names_kept: 100, torn: false, garbage: false }
    }

    fn keeps(&mut self) -> bool {
        self.random.of(0..100) < self.kept
    }

    fn keeps_name(&mut self) -> bool {
        self.random.of(0..100) < self.names_kept
    }

    fn sectors(&mut self, at: u64, bytes: &[u8]) -> Sectors {
        if !self.torn || !self.random.one_in(4) {
            let kept = self.keeps();
            let longer = self.torn && self.random.one_in(4);
            return if kept { Sectors::All } else { Sectors::None { longer } };
        }
        let count = ((at + bytes.len() as u64).div_ceil(SECTOR_BYTES) - at / SECTOR_BYTES) as usize;
        let cut = self.random.of(0..count.max(1) as u64) as usize;
        let sectors = match self.random.of(0..3) {
            0 => (0..count).map(|number| number < cut).collect(),
            1 => (0..count).map(|number| number >= cut).collect(),
            _ => (0..count).map(|_| self.keeps()).collect(),
        };
        Sectors::Some(sectors)
    }

    /// What may stand where a file became longer and nothing was written.
    fn garbage(&mut self, length: usize) -> Option<Vec<u8>> {
        if !self.garbage {
            return None;
        }
        let word = self.random.next().to_le_bytes();
        Some(word.repeat(length / word.len() + 1)[..length].to_vec())
    }
}
