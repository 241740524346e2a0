//! Sealing: passwords are stored encrypted and authenticated, each bound to the place where it is stored.
//!
//! A sealed text is `1.<key id>.<base64>`: the version of this form, the id of the key, and nonce (12 bytes), ciphertext
//! and tag (16 bytes) of AES-256-GCM. The associated data is the table, the row's key and the column, so that a sealed
//! text which is moved to another row or column does not open there.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm::aead::{Aead, Generate, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::store::error::StoreError;

type Nonce = aes_gcm::aead::Nonce<Aes256Gcm>;

const FORM: &str = "1";
const NONCE_BYTES: usize = 12;

/// Where a sealed text is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) table: &'a str,
    pub(super) row: &'a str,
    pub(super) column: &'a str,
}

impl Place<'_> {
    /// Tables and columns have no NUL in their names, so no two places give the same bytes.
    fn associated_data(&self) -> Vec<u8> {
        [self.table, self.row, self.column].join("\0").into_bytes()
    }

    fn error(&self, why: &str) -> StoreError {
        StoreError::Sealed(format!("column {} of {} {}: {why}", self.column, self.table, self.row))
    }
}

/// The keys under which secrets are stored: the last one seals, each one opens. They are wiped when the last clone is
/// dropped, and `Debug` shows their ids alone.
#[derive(Clone)]
pub struct KeyRing(Arc<Keys>);

struct Keys {
    older: Vec<Key>,
    current: Key,
}

struct Key {
    id: String,
    cipher: Aes256Gcm,
}

/// One key, as Taskcluster's `DB_CRYPTO_KEYS` has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    algo: String,
    key: Zeroizing<String>,
}

impl Entry {
    /// What is wrong is told without any of the entry's values, for one of them may be a key that stands in the wrong place.
    fn key(self) -> Result<Key, &'static str> {
        if self.id.is_empty() || self.id.trim() != self.id {
            return Err("`id` is empty, or has a blank at an end; give it a name of its own");
        }
        if self.algo != "aes-256" {
            return Err("`algo` must be \"aes-256\"");
        }
        let wrong = "`key` must be base64 of 32 random bytes, as `openssl rand -base64 32` prints them";
        let bytes = Zeroizing::new(STANDARD.decode(self.key.as_bytes()).map_err(|_| wrong)?);
        let cipher = Aes256Gcm::new_from_slice(&bytes).map_err(|_| wrong)?;
        Ok(Key { id: self.id, cipher })
    }
}

impl KeyRing {
    /// Reads a key ring as Taskcluster's services have it in `DB_CRYPTO_KEYS`: a JSON array, oldest key first, of
    /// `{"id": "<name>", "algo": "aes-256", "key": "<base64 of 32 bytes>"}`.
    ///
    /// # Errors
    /// [`StoreError::Setup`] says which entry is wrong and what would be right, and shows nothing of a key.
    pub fn parse(json: &str) -> Result<KeyRing, StoreError> {
        let shape = r#"{"id": "<name>", "algo": "aes-256", "key": "<base64 of 32 bytes>"}"#;
        let wrong = |what: String| StoreError::Setup(format!("the store's keys are wrong: {what}"));
        let entries: Vec<&RawValue> =
            serde_json::from_str(json).map_err(|_| wrong(format!("they must be a JSON array of {shape}")))?;
        let mut keys: Vec<Key> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let number = index + 1;
            let entry: Entry = serde_json::from_str(entry.get())
                .map_err(|_| wrong(format!("entry {number} must have the form {shape}")))?;
            let key = entry.key().map_err(|what| wrong(format!("entry {number}: {what}")))?;
            if let Some(other) = keys.iter().position(|other| other.id == key.id) {
                return Err(wrong(format!("entries {} and {number} have the same `id`", other + 1)));
            }
            keys.push(key);
        }
        let current = keys.pop().ok_or_else(|| wrong(format!("there is none; give at least one {shape}")))?;
        Ok(KeyRing(Arc::new(Keys { older: keys, current })))
    }

    /// Seals `text` under the current key for `place`.
    pub(super) fn seal(&self, place: Place<'_>, text: &str) -> Result<String, StoreError> {
        let failed = || StoreError::Failed("a secret can't be sealed: no random numbers".to_owned());
        let Key { id, cipher } = &self.0.current;
        let nonce = Nonce::try_generate().map_err(|_| failed())?;
        let payload = Payload { msg: text.as_bytes(), aad: &place.associated_data() };
        let sealed = cipher.encrypt(&nonce, payload).map_err(|_| failed())?;
        Ok(format!("{FORM}.{id}.{}", STANDARD.encode([&nonce[..], &sealed].concat())))
    }

    /// Whether `sealed` was sealed under the key that seals now.
    pub(super) fn sealed_newest(&self, sealed: &str) -> bool {
        parts(sealed).is_some_and(|(_, id, _)| id == self.0.current.id)
    }

    /// Opens what [`KeyRing::seal`] made for the same place.
    pub(super) fn open(&self, place: Place<'_>, sealed: &str) -> Result<String, StoreError> {
        let garbled = || place.error("it is not in a form that this version knows");
        let (form, id, bytes) = parts(sealed).ok_or_else(garbled)?;
        let bytes = STANDARD.decode(bytes).map_err(|_| garbled())?;
        let (nonce, ciphertext) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(garbled)?;
        if form != FORM {
            return Err(garbled());
        }
        let Keys { older, current } = &*self.0;
        let key = older.iter().chain([current]).find(|key| key.id == id);
        let key = key.ok_or_else(|| place.error(&format!("its key {id:?} is not in the key ring")))?;
        let payload = Payload { msg: ciphertext, aad: &place.associated_data() };
        let opened = key.cipher.decrypt(&Nonce::from(*nonce), payload);
        let opened = opened.map_err(|_| {
            place.error(&format!("it was changed or moved, or the key {id:?} is not the one that sealed it"))
        })?;
        String::from_utf8(opened).map_err(|_| garbled())
    }

    /// Reads the key ring in the file at `path`; `None` where there is no such file.
    pub(super) fn from_file(path: &Path) -> Result<Option<KeyRing>, StoreError> {
        let wrong = |what: String| StoreError::Setup(format!("the key file {}: {what}", path.display()));
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| wrong(error.to_string()))?,
        };
        let mode = file.metadata().map_err(|error| wrong(error.to_string()))?.mode();
        if mode & 0o077 != 0 {
            return Err(wrong("others than its owner may use it; run `chmod 600` on it".to_owned()));
        }
        let mut json = Zeroizing::new(String::new());
        file.read_to_string(&mut json).map_err(|error| wrong(error.to_string()))?;
        KeyRing::parse(&json).map(Some).map_err(|error| wrong(error.to_string()))
    }

    /// Makes a file with one new key at `path`, for its owner alone, and reads it. Where another process makes one at the
    /// same time, both read the same.
    pub(super) fn create_file(path: &Path) -> Result<KeyRing, StoreError> {
        let failed =
            |error: io::Error| StoreError::Setup(format!("can't make the key file {}: {error}", path.display()));
        let key = Zeroizing::new(<[u8; 32]>::try_generate().map_err(io::Error::other).map_err(failed)?);
        let id = Uuid::new_v4().simple().to_string();
        let json = Zeroizing::new(format!(
            "[{{\"id\": \"{}\", \"algo\": \"aes-256\", \"key\": \"{}\"}}]\n",
            &id[..8],
            *Zeroizing::new(STANDARD.encode(*key)),
        ));
        let draft = PathBuf::from(format!("{}.{id}", path.display()));
        let linked = write_draft(&draft, json.as_bytes()).and_then(|()| fs::hard_link(&draft, path));
        let removed = fs::remove_file(&draft);
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked.and(removed).and_then(|()| sync_directory(path)).map_err(failed)?,
        }
        KeyRing::from_file(path)?.ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))
    }
}

/// The form, the key's id and the rest of a sealed text. An id may hold dots.
fn parts(sealed: &str) -> Option<(&str, &str, &str)> {
    let (form, rest) = sealed.split_once('.')?;
    let (id, bytes) = rest.rsplit_once('.')?;
    Some((form, id, bytes))
}

/// The file gets its name only when it is complete, for nobody may read half a key; and linking, unlike renaming, does not
/// replace the file of a process that was faster.
fn write_draft(draft: &Path, json: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(json)?;
    file.sync_all()
}

/// Makes the file's name outlive a power failure, as the rows that are sealed with its key do.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keys { older, current } = &*self.0;
        f.write_str("KeyRing")?;
        f.debug_list().entries(older.iter().chain([current]).map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn entry(id: &str, algo: &str, key: &str) -> String {
        format!(r#"{{"id": "{id}", "algo": "{algo}", "key": "{key}"}}"#)
    }

    #[test]
    fn a_wrong_key_ring_is_refused_by_entry_without_showing_a_key() {
        let good = entry("a", "aes-256", KEY);
        for (json, what) in [
            ("".to_owned(), "must be a JSON array"),
            (good.clone(), "must be a JSON array"),
            (format!("[{good}"), "must be a JSON array"),
            ("[]".to_owned(), "there is none"),
            (format!("[{good}, \"{KEY}\"]"), "entry 2 must have the form"),
            (format!("[{good}, {{\"id\": \"b\", \"key\": \"{KEY}\"}}]"), "entry 2 must have the form"),
            (format!("[{}]", good.replace("algo", KEY)), "entry 1 must have the form"),
            (format!("[{}]", entry("", "aes-256", KEY)), "entry 1: `id` is empty"),
            (format!("[{}]", entry("a", KEY, "aes-256")), "entry 1: `algo` must be \"aes-256\""),
            (format!("[{}]", entry(KEY, "aes-256", "a")), "entry 1: `key` must be base64 of 32"),
            (format!("[{}]", entry("a", "aes-256", &KEY[4..])), "entry 1: `key` must be base64 of 32"),
            (format!("[{good}, {}, {good}]", entry("b", "aes-256", KEY)), "entries 1 and 3 have the same `id`"),
        ] {
            let error = KeyRing::parse(&json).unwrap_err().to_string();
            assert!(error.contains(what) && !error.contains(&KEY[4..]), "{json}: {error}");
        }
    }

    #[test]
    fn debug_shows_the_ids_alone() {
        let keys = format!("[{}, {}]", entry("a", "aes-256", KEY), entry("b", "aes-256", KEY));
        assert_eq!(format!("{:?}", KeyRing::parse(&keys).unwrap()), r#"KeyRing["a", "b"]"#);
    }

    #[test]
    fn an_id_may_hold_any_character() {
        let keys = KeyRing::parse(&format!("[{}]", entry("2026.1 \\\"ü", "aes-256", KEY))).unwrap();
        let place = Place { table: "t", row: "r", column: "c" };
        let sealed = keys.seal(place, "secret").unwrap();
        assert!(sealed.starts_with("1.2026.1 \"ü."), "{sealed}");
        assert_eq!(keys.open(place, &sealed).unwrap(), "secret");
        for (at, _) in sealed.char_indices() {
            assert!(keys.open(place, &sealed[..at]).is_err());
        }
    }
}
