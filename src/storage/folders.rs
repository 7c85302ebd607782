//! What an isolate remembers about the folders of a directory of which it is the only writer: the
//! names in the folders and the tags of the files. Its own writes keep this up to date.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

use super::Tag;

/// How many names are remembered in all folders, counting the folders themselves. If there are more,
/// all are forgotten.
const NAMES: usize = 200_000;
/// How many listings can be in progress at once.
const LISTINGS: usize = 100;
/// How many changes may happen in a folder while it is listed.
const CHANGES: usize = 10_000;

/// A folder: its names in ascending order, with the tags of the files where they are known. The
/// name of a folder ends in a slash, so that it sorts as the keys below it do.
#[derive(Debug, Default)]
pub struct Folder(RefCell<BTreeMap<String, Option<Tag>>>);

impl Folder {
    /// A folder with these names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(RefCell::new(
            names.into_iter().map(|name| (name, None)).collect(),
        ))
    }

    /// How many names it takes to remember the folder.
    fn len(&self) -> usize {
        self.0.borrow().len().saturating_add(1)
    }

    /// The first entry from `bound` on.
    pub fn next(&self, bound: Bound<&str>) -> Option<(String, Option<Tag>)> {
        let names = self.0.borrow();
        let (name, tag) = names.range::<str, _>((bound, Bound::Unbounded)).next()?;
        Some((name.clone(), tag.clone()))
    }
}

/// A completed change of a file.
#[derive(Clone)]
enum Change {
    Put(Tag),
    /// There is a folder with this name.
    Folder,
    Delete,
    /// It is unknown what happened to the file.
    Unclear,
}

/// The folders that are remembered.
#[derive(Default)]
pub struct Folders {
    known: RefCell<HashMap<String, Rc<Folder>>>,
    names: Cell<usize>,
    /// The listings that are in progress, latest last.
    listings: RefCell<VecDeque<Listing>>,
    last_listing: Cell<u64>,
    changes: Cell<u64>,
}

/// A listing in progress, with the changes in its folder since it began.
struct Listing {
    id: u64,
    folder: String,
    changes: Vec<(String, Change)>,
}

/// Splits `key` into its folder, with the slash, and its name there.
fn split(key: &str) -> (&str, &str) {
    match key.rfind('/') {
        Some(at) => key.split_at(at.saturating_add(1)),
        None => ("", key),
    }
}

impl Folders {
    /// Finds a folder that is remembered.
    pub fn find(&self, folder: &str) -> Option<Rc<Folder>> {
        self.known.borrow().get(folder).cloned()
    }

    /// Begins a listing. This must be called before the folder is listed, and its result is passed
    /// to [`Self::listed`].
    pub fn begin_listing(&self, folder: &str) -> u64 {
        let id = self.last_listing.get().wrapping_add(1);
        self.last_listing.set(id);
        let mut listings = self.listings.borrow_mut();
        // A listing whose client hung up never ends.
        if listings.len() >= LISTINGS {
            listings.pop_front();
        }
        listings.push_back(Listing {
            id,
            folder: folder.to_owned(),
            changes: Vec::new(),
        });
        id
    }

    /// Ends a listing. Returns the folder as it was listed, with the changes since the listing
    /// began. `None` says that there is no such folder. Nothing is remembered of that: anybody can
    /// think of names that do not exist.
    pub fn listed(&self, id: u64, folder: Option<Folder>) -> Rc<Folder> {
        let is_there = folder.is_some();
        let folder = Rc::new(folder.unwrap_or_default());
        let listing = {
            let mut listings = self.listings.borrow_mut();
            let at = listings.iter().position(|listing| listing.id == id);
            at.and_then(|at| listings.remove(at))
        };
        let Some(listing) = listing else {
            return folder;
        };
        let mut is_clear = true;
        for (name, change) in listing.changes {
            is_clear &= !matches!(change, Change::Unclear);
            apply(&folder, &name, &change);
        }
        if is_clear && (is_there || !folder.0.borrow().is_empty()) {
            self.remember(listing.folder, folder.clone());
        }
        folder
    }

    /// How many names are remembered, counting the folders, and how many listings are in progress.
    #[cfg(test)]
    pub fn remembered(&self) -> (usize, usize) {
        let known = self.known.borrow();
        let names = known.values().map(|folder| folder.len()).sum();
        assert_eq!(names, self.names.get(), "what is counted");
        (names, self.listings.borrow().len())
    }

    fn remember(&self, path: String, folder: Rc<Folder>) {
        let names = folder.len();
        if names > NAMES {
            return;
        }
        self.forget(&path);
        if self.names.get().saturating_add(names) > NAMES {
            self.known.borrow_mut().clear();
            self.names.set(0);
        }
        self.names.set(self.names.get().saturating_add(names));
        self.known.borrow_mut().insert(path, folder);
    }

    fn forget(&self, path: &str) {
        if let Some(folder) = self.known.borrow_mut().remove(path) {
            self.names
                .set(self.names.get().saturating_sub(folder.len()));
        }
    }

    /// The number of changes so far.
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Remembers the tag of a file that was read. `changes` is the number of changes when the read
    /// began. The tag is ignored if there have been more since.
    pub fn saw(&self, key: &str, tag: &Tag, changes: u64) {
        let (folder, name) = split(key);
        if changes == self.changes.get()
            && let Some(folder) = self.find(folder)
            && let Some(known) = folder.0.borrow_mut().get_mut(name)
        {
            *known = Some(tag.clone());
        }
    }

    /// Records that a file was written.
    pub fn put(&self, key: &str, tag: &Tag) {
        self.change(key, &Change::Put(tag.clone()));
    }

    /// Records that a file was deleted.
    pub fn deleted(&self, key: &str) {
        self.change(key, &Change::Delete);
    }

    /// Records that it is unknown what happened to a file.
    pub fn unclear(&self, key: &str) {
        self.change(key, &Change::Unclear);
    }

    fn change(&self, key: &str, change: &Change) {
        self.changes.set(self.changes.get().wrapping_add(1));
        let (folder, name) = split(key);
        self.note(folder, name, change);
        let above = match change {
            Change::Put(_) => Change::Folder,
            Change::Unclear => Change::Unclear,
            Change::Folder | Change::Delete => return,
        };
        // The file's folder may be new, and so may the folders above it.
        let mut below = folder;
        while let Some(path) = below.strip_suffix('/') {
            let (folder, _) = split(path);
            self.note(
                folder,
                below.get(folder.len()..).unwrap_or_default(),
                &above,
            );
            below = folder;
        }
    }

    fn note(&self, folder: &str, name: &str, change: &Change) {
        let mut listings = self.listings.borrow_mut();
        listings.retain(|listing| listing.changes.len() < CHANGES);
        for listing in listings.iter_mut() {
            if listing.folder == folder {
                listing.changes.push((name.to_owned(), change.clone()));
            }
        }
        if matches!(change, Change::Unclear) {
            self.forget(folder);
        } else if let Some(known) = self.find(folder) {
            let before = known.len();
            apply(&known, name, change);
            let names = self.names.get().saturating_add(known.len());
            self.names.set(names.saturating_sub(before));
        }
    }
}

fn apply(folder: &Folder, name: &str, change: &Change) {
    let mut names = folder.0.borrow_mut();
    match change {
        Change::Put(tag) => {
            names.insert(name.to_owned(), Some(tag.clone()));
        }
        Change::Folder => {
            names.insert(name.to_owned(), None);
        }
        Change::Delete => {
            names.remove(name);
        }
        Change::Unclear => {}
    }
}
