//! Rows 17, 18: the disk is full; the process dies while the log is moved into the file.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Chance,
    crashes::{finish, spawn},
    ledger::{Row, call, id},
    within,
};
use crate::{
    service::{Parts, signal},
    tables::Tables,
};

/// A disk of 32 MB that goes when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None, with a message, where we may not mount.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=32m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(folder.path()).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            println!("skipped: a file system of 32 MB cannot be mounted, that takes root");
            return None;
        }
        Some(Self(folder))
    }

    /// Writes until nothing more fits.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("fill");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 20, 4096, 512] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[test]
fn row_17_sqlite_disk_full() {
    let turn = super::turn();
    let Some(disk) = SmallDisk::new() else { return };
    drop(turn);
    let folder = Some(tempfile::tempdir_in(disk.0.path()).unwrap());
    let mut row = Row::new("17", "disk full, then free", Parts { folder, ..Parts::default() });
    row.send(60);
    let worker = row.worker(&[("AFTERCHECK__HTTP__STALL_SECS", "3"), ("AFTERCHECK_SLOW_MS", "100")]);
    assert!(row.await_ended(10));
    let filler = disk.fill();
    let flow = row.flow(5, Duration::from_millis(50));
    let says = || worker.log.lock().unwrap().iter().any(|line| line.contains("full"));
    let told = within(Duration::from_secs(40), || (worker.get("/readyz").0 == 503 || says()).then_some(()));
    row.expect(told.is_some(), "L: neither readiness nor the log tells of the full disk");
    sleep(Duration::from_secs(5));
    fs::remove_file(filler).unwrap();
    row.fault_over();
    sleep(Duration::from_secs(2));
    flow.stop();
    row.await_all();
    row.stop(vec![worker]);
    let sound = row.service.tables.texts("PRAGMA integrity_check").unwrap();
    row.expect(sound == ["ok"], &format!("integrity_check: {sound:?}"));
    let line = row.close();
    drop(disk);
    line.must_hold();
}

/// Calls with so much context that a few of them fill the log.
fn large(first: usize, calls: usize) -> Vec<(String, Vec<u8>)> {
    let one = |number: usize| {
        let mut call = call(number);
        call["content"]["contexts"][0]["text"] = "The answer is yes. ".repeat(1500).into();
        (id(number), call.to_string().into_bytes())
    };
    (first..first + calls).map(one).collect()
}

/// Calls that may wait for the next worker.
const MAX_BACKLOG: usize = 1000;

/// When the file itself was last written: a checkpoint does that.
fn written(file: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(file).and_then(|meta| meta.modified()).ok()
}

/// Row 18: kills in the very moment when the log is moved into the file.
fn dies_in_checkpoints(kills: usize) {
    let mut row = Row::new("18", format!("{kills} kill -9 during a checkpoint"), Parts::default());
    let (file, mut caught) = (row.service.path("a.db"), 0);
    for round in 0..kills {
        // No more than is worked off soon: the time of a backlog is no time of recovery.
        if row.accepted() - row.ended() < MAX_BACKLOG {
            row.send_payloads(large(round * 60 + 1, 60));
        }
        let before = written(&file);
        let mut worker = spawn(&row, &[]);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && written(&file) == before {
            std::hint::spin_loop();
        }
        caught += usize::from(written(&file) != before);
        worker.kill().unwrap();
        worker.wait().unwrap();
        let sound = row.service.tables.texts("PRAGMA integrity_check").unwrap();
        row.expect(sound == ["ok"], &format!("integrity_check: {sound:?}"));
    }
    println!("{caught} of {kills} kills came with a checkpoint");
    row.expect(caught > kills / 2, "the kills do not meet checkpoints");
    finish(row).must_hold();
}

#[test]
fn row_18_dies_in_checkpoints() {
    dies_in_checkpoints(8);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_18_dies_in_checkpoints_long() {
    dies_in_checkpoints(200);
}

/// Row 18: file and log as they are at random moments, as a power cut would leave them, hold all that was committed.
fn is_copied_at_random(copies: usize) {
    let mut row = Row::new("18", format!("file and log copied at {copies} random moments"), Parts::default());
    let worker = row.worker(&[]);
    let mut chance = Chance(18);
    for copy in 0..copies {
        row.send_payloads(large(copy * 30 + 1, 30));
        sleep(chance.millis(20, 400));
        let committed = row.service.tables.texts("SELECT request_id FROM evaluations").unwrap();
        sleep(chance.millis(1, 60));
        // Stopped, so that the two files are of one moment.
        signal(&worker.child, "STOP");
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.db", "a.db-wal"] {
            drop(fs::copy(row.service.path(name), folder.path().join(name)));
        }
        signal(&worker.child, "CONT");
        let copied = Tables::Sqlite(folder.path().join("a.db"));
        let sound = copied.texts("PRAGMA integrity_check").unwrap();
        row.expect(sound == ["ok"], &format!("integrity_check: {sound:?}"));
        let there = copied.texts("SELECT request_id FROM evaluations").unwrap();
        let missing = committed.iter().filter(|id| !there.contains(id)).count();
        row.expect(missing == 0, &format!("C: {missing} committed evaluations are not in the copy"));
    }
    row.fault_over();
    row.await_all();
    row.stop(vec![worker]);
    row.close().must_hold();
}

#[test]
fn row_18_is_copied_at_random() {
    is_copied_at_random(8);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_18_is_copied_at_random_long() {
    is_copied_at_random(200);
}
