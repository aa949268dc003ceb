//! One JSON line per evaluation in a file. Repeats are possible after a crash: `delivery_id` tells them.
//!
//! Several workers may write to one file: each appends a batch under an exclusive lock on the file (`flock`), so that neither its
//! lines nor the look at whether the last line has an end run into those of another, however many bytes they are. The lock goes
//! with the process. Where the file system has no locks, or the path is a pipe, only one worker may write.
//!
//! A retraction overwrites the line where it stands with another of the same length, `{"delivery_id":…,"erased":true}`:
//! others may be appending to the file meanwhile, and nothing of theirs may move or be lost. The file is read from end to end for
//! each batch. What was moved away, by a rotation of logs say, or stands in another worker's file, is not known here.

use std::{
    collections::HashSet,
    fs::{File, TryLockError},
    io::{self, BufRead, BufReader, ErrorKind, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use memchr::memmem;
use serde::Serialize;
use tokio::{sync::Mutex, task::spawn_blocking};
use uuid::Uuid;

use super::{Content, Item, Outcome, Retraction, Sink, SinkError};
use crate::domain::{Evaluation, Golden, Label};

/// Rows written with one flush to disk.
const BATCH: u32 = 100;
/// How each line begins: `delivery_id` is the first field of a line, and the id has 36 characters.
const BEGIN: &[u8] = br#"{"delivery_id":""#;
/// Characters of an id.
const ID_CHARS: usize = 36;
/// How long another worker may hold the file, and how often we look whether it still does.
const LOCK_WAIT: Duration = Duration::from_secs(20);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// Appends to a file.
pub struct JsonlSink {
    path: PathBuf,
    writing: Arc<Mutex<()>>,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    delivery_id: Uuid,
    #[serde(flatten)]
    content: Written<'a>,
}

/// What it is about, under its name.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Written<'a> {
    Evaluation(&'a Evaluation),
    Label(&'a Label),
    Golden(&'a Golden),
}

impl<'a> Line<'a> {
    /// Without what comments of scores would quote: who reads the file has the offsets.
    fn of(item: &'a Item) -> Self {
        let content = match &item.content {
            Content::Evaluation(scored) => Written::Evaluation(&scored.evaluation),
            Content::Label(said) => Written::Label(&said.label),
            Content::Golden(golden) => Written::Golden(golden),
        };
        Self { delivery_id: item.delivery_id, content }
    }
}

impl JsonlSink {
    /// A sink that appends to `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, writing: Arc::default() }
    }

    /// Does something with the file while no other batch of this worker does. What nobody waits for any more keeps its turn to its
    /// end: behind a pipe that nobody reads one thread hangs, and the next batches wait for it.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let path = self.path.clone();
        let doing = move || {
            let done = work(&path);
            drop(turn);
            done
        };
        spawn_blocking(doing).await.map_err(io::Error::other)?
    }
}

#[async_trait]
impl Sink for JsonlSink {
    fn batch(&self) -> u32 {
        BATCH
    }

    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError> {
        let mut lines = Vec::new();
        for item in items {
            serde_json::to_writer(&mut lines, &Line::of(item)).map_err(io::Error::from)?;
            lines.push(b'\n');
        }
        self.alone(move |path| append(path, &lines)).await?;
        Ok(vec![Outcome::DELIVERED; items.len()])
    }

    async fn retract(&self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError> {
        let ids: HashSet<Uuid> = retractions.iter().map(|one| one.delivery_id).collect();
        Ok(self.alone(move |path| overwrite(path, ids)).await?)
    }

    async fn check(&self) -> Result<String, SinkError> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(missing) = folder.filter(|folder| !folder.is_dir()) {
            return Err(SinkError::Denied(format!("no folder {}: create it", missing.display())));
        }
        match std::fs::metadata(&self.path) {
            Ok(about) if about.is_dir() => {
                Err(SinkError::Denied(format!("{} is a folder: name a file", self.path.display())))
            }
            Ok(about) if about.permissions().readonly() => {
                Err(SinkError::Denied(format!("{} is read-only: let us write to it", self.path.display())))
            }
            _ => Ok(format!("can write {}", self.path.display())),
        }
    }
}

/// Appends lines to a file while no other worker does, in a line of their own.
fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let is_file = file.metadata()?.is_file();
    if is_file {
        hold(&file)?;
    }
    if is_torn(&file)? {
        file.write_all(b"\n")?;
    }
    file.write_all(lines)?;
    // A pipe has no disk to wait for.
    if is_file { file.sync_data() } else { Ok(()) }
}

/// Whether a file system says that it has no locks: NFS without a lock service does so by ENOLCK, 37 on Linux.
fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(37)
}

/// Holds a file until it is closed. Where its file system has no locks, it is not held.
fn hold(file: &File) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => {
                let reason = format!("another process has locked it for {} s", LOCK_WAIT.as_secs());
                return Err(io::Error::new(ErrorKind::WouldBlock, reason));
            }
            Err(TryLockError::Error(error)) if has_no_locks(&error) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

/// Whether the last line has no end: a crash, or a full disk, has cut it off. Where something is written to a pipe, nobody knows.
fn is_torn(file: &File) -> io::Result<bool> {
    let about = file.metadata()?;
    if !about.is_file() || about.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.read_exact_at(&mut last, about.len() - 1)?;
    Ok(last != *b"\n")
}

/// Overwrites the lines of deliveries; gives back those that have none. A file that is not there has none of them.
fn overwrite(path: &Path, ids: HashSet<Uuid>) -> io::Result<Vec<Uuid>> {
    // One handle: a file that is put in its place meanwhile is another.
    let file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(ids.into_iter().collect()),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file: what was written to it cannot be overwritten"));
    }
    let (mut missing, mut lines, mut line, mut at) = (ids.clone(), BufReader::new(&file), Vec::new(), 0);
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        for (id, place) in deliveries(line.strip_suffix(b"\n").unwrap_or(&line)) {
            if ids.contains(&id) {
                file.write_all_at(&erased(id, place.len()), at + place.start as u64)?;
                missing.remove(&id);
            }
        }
        at += read as u64;
    }
    file.sync_data()?;
    Ok(missing.into_iter().collect())
}

/// The deliveries of a line and their bytes: one, or more where the beginning of another was left there by a crash. What
/// they begin with stands in no text of JSON, where a quotation mark has a backslash before it.
fn deliveries(line: &[u8]) -> Vec<(Uuid, Range<usize>)> {
    let starts: Vec<usize> = memmem::find_iter(line, BEGIN).collect();
    let ends = starts.iter().skip(1).copied().chain([line.len()]);
    let with_id = |(start, end): (&usize, usize)| {
        let id = line.get(start + BEGIN.len()..)?.get(..ID_CHARS)?;
        Some((Uuid::try_parse_ascii(id).ok()?, *start..end))
    };
    starts.iter().zip(ends).filter_map(with_id).collect()
}

/// A line of this length that says that it was erased; white space where that does not fit.
fn erased(id: Uuid, length: usize) -> Vec<u8> {
    let said = format!(r#"{{"delivery_id":"{id}","erased":true"#);
    let mut line = vec![b' '; length];
    if said.len() < length {
        line[..said.len()].copy_from_slice(said.as_bytes());
        line[length - 1] = b'}';
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: Uuid) -> String {
        format!(r#"{{"delivery_id":"{id}","evaluation":{{"feature":"ä secret of {id}"}}}}"#)
    }

    #[tokio::test]
    async fn a_retraction_overwrites_its_lines_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        let sink = JsonlSink::new(path.clone());
        let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
        let retraction =
            |delivery_id| Retraction { delivery_id, evaluation_id: Uuid::nil(), receipt: None, golden: None };
        assert_eq!(sink.retract(&[retraction(one)]).await.unwrap(), [one], "nothing was delivered");
        // A crash has left the beginning of a line before another one, and one at the end.
        let torn = &line(three)[..BEGIN.len() + ID_CHARS + 8];
        let before = format!("{}\nnot ours {two}\n{}\n{torn}{}\n{torn}", line(one), line(two), line(one));
        std::fs::write(&path, &before).unwrap();
        assert!(sink.retract(&[retraction(one)]).await.unwrap().is_empty());
        let after = std::fs::read_to_string(&path).unwrap();
        assert_eq!(after.len(), before.len(), "nothing moves");
        let lines: Vec<&str> = after.split('\n').collect();
        assert_eq!(lines[1..3], [format!("not ours {two}"), line(two)]);
        assert_eq!(lines[3].strip_prefix(torn), Some(lines[0]), "and the beginning of another line stays");
        let read: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(read, serde_json::json!({"delivery_id": one, "erased": true}));
        assert!(sink.retract(&[retraction(one), retraction(three)]).await.unwrap().is_empty());
        let after = std::fs::read_to_string(&path).unwrap();
        assert!(!after.contains(&three.to_string()), "{after}");
        assert_eq!(after.lines().nth(2), Some(line(two).as_str()));
        assert_eq!(sink.retract(&[retraction(Uuid::nil())]).await.unwrap(), [Uuid::nil()]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_workers_do_not_write_into_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        // A worker is in the middle of its batch.
        let mut other = File::options().create(true).append(true).open(&path).unwrap();
        other.lock().unwrap();
        let half = line(Uuid::nil()).into_bytes();
        other.write_all(&half[..40]).unwrap();
        let (waiting, lines) = (path.clone(), line(Uuid::from_u128(1)) + "\n");
        let ours = spawn_blocking(move || append(&waiting, lines.as_bytes()));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(std::fs::read(&path).unwrap(), half[..40], "it is waited for");
        other.write_all(&half[40..]).unwrap();
        other.write_all(b"\n").unwrap();
        drop(other);
        ours.await.unwrap().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n{}\n", line(Uuid::nil()), line(Uuid::from_u128(1))));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_hangs_on_a_pipe_that_nobody_reads_hangs_once() {
        let sink = JsonlSink::new(PathBuf::from("/nowhere"));
        let (end, ended) = std::sync::mpsc::channel();
        let patience = Duration::from_millis(100);
        let first =
            tokio::time::timeout(patience, sink.alone(move |_| ended.recv().map_err(io::Error::other)));
        assert!(first.await.is_err(), "it hangs");
        for _ in 0..3 {
            let next =
                tokio::time::timeout(patience, sink.alone(|_| -> io::Result<()> { panic!("it begins") }));
            assert!(next.await.is_err(), "it waits, and begins nothing");
        }
        end.send(()).unwrap();
        sink.alone(|_| Ok(())).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn long_batches_of_several_workers_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        let batch = |worker: u128| -> Vec<u8> {
            let long = "x".repeat(1 << 16);
            let lines = (0..50).map(|number| format!("{{\"{}\":\"{long}\"}}\n", worker * 100 + number));
            lines.collect::<String>().into_bytes()
        };
        let writing = (0..4).map(|worker| {
            let (path, batch) = (path.clone(), batch(worker));
            spawn_blocking(move || (0..3).try_for_each(|_| append(&path, &batch)))
        });
        for done in futures_util::future::join_all(writing).await {
            done.unwrap().unwrap();
        }
        let lines = std::fs::read_to_string(&path).unwrap();
        let each =
            |line: &str| serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(line).unwrap().len();
        assert_eq!(lines.lines().map(each).sum::<usize>(), 4 * 3 * 50);
    }

    #[tokio::test]
    async fn a_line_that_was_cut_off_is_ended_before_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        std::fs::write(&path, "{\"delivery").unwrap();
        JsonlSink::new(path.clone()).deliver(&[]).await.unwrap();
        JsonlSink::new(path.clone()).deliver(&[]).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"delivery\n");
    }
}
