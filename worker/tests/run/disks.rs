//! Disks that are missing, read-only, full or removed, and the slots on them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sealbus_schema::{ErrorClass, ErrorCode, message::SlotStatus};

use crate::support::{Bench, Manager, Server, eventually};

/// A file system that is unmounted at the end of the test.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` if the test may not mount; the reason is printed.
    fn mount(at: &Path, size: &str) -> Option<Tmpfs> {
        fs::create_dir_all(at).expect("directory");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output()
            .expect("runs mount");
        if !output.status.success() {
            println!("skipped: cannot mount a tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(Tmpfs(at.to_owned()))
    }

    fn remount(&self, how: &str) {
        let status =
            Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().expect("runs mount");
        assert!(status.success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A lazy unmount, because a worker that is being killed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_slot_that_is_not_there_at_the_start_is_shown_and_taken_up_when_it_is() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    fs::remove_dir(bench.path("slot0")).expect("removes");
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    let report = seen.slots[0].blocked.as_ref().expect("blocked");
    assert_eq!((report.class, report.code.clone()), (ErrorClass::Crit, ErrorCode::SLOT_UNUSABLE));
    assert!(seen.slots[0].unreadable, "a disk that is not mounted may hold a sector");
    assert!(!bench.path("slot0").exists(), "the worker makes no slot");
    fs::create_dir(bench.path("slot0")).expect("directory");
    manager.see_through(sector, "finished").await;
    // Heartbeats are sent one after the other. An earlier one may show the moment when the slot was being opened.
    let is_free = |slot: &SlotStatus| slot.blocked.is_none() && !slot.unreadable;
    manager.heartbeat_with("a free slot", |seen| is_free(&seen.slots[0])).await;
}

#[tokio::test]
async fn a_disk_that_hangs_at_the_start_keeps_no_other_slot_from_starting() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 2);
    // Opening this pipe blocks until there is a writer, as on a file system whose server is away.
    let lock = bench.path("slot0").join("slot.lock");
    rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    manager.see_through(sector, "finished").await;
    let seen = manager.heartbeat_with("a silent slot", |seen| seen.slots[0].blocked.is_some()).await;
    assert!(seen.slots[0].unreadable, "it may hold a sector");
    // The server is back, and there never was a lock.
    let writer = fs::File::options().write(true).open(&lock).expect("opens");
    fs::remove_file(&lock).expect("removes");
    drop(writer);
    manager.heartbeat_with("no silent slot", |seen| seen.slots[0].blocked.is_none()).await;
}

#[tokio::test]
async fn a_read_only_disk_blocks_its_own_slot_alone_until_it_is_writable() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 2);
    let Some(disk) = Tmpfs::mount(&bench.path("slot0"), "256m") else { return };
    let _worker = bench.start();
    manager.heartbeat_with("free slots", |seen| seen.slots.iter().all(|slot| slot.blocked.is_none())).await;
    disk.remount("ro");
    for number in [1, 2] {
        let sector = manager.offer(number).await;
        manager.see_through(sector, "finished").await;
    }
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    let report = seen.slots[0].blocked.as_ref().expect("blocked");
    assert_eq!((report.class, report.code.clone()), (ErrorClass::Crit, ErrorCode::IO_FAILED));
    assert_eq!((report.host.as_str(), report.slot.as_str()), ("bench", seen.slots[0].path.as_str()));
    assert!(seen.slots[1].blocked.is_none());
    disk.remount("rw");
    manager.heartbeat_with("a usable slot", |seen| seen.slots[0].blocked.is_none()).await;
}

#[tokio::test]
async fn a_full_disk_blocks_its_slot_until_there_is_room() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let Some(_disk) = Tmpfs::mount(&bench.path("slot0"), "128m") else { return };
    let _worker = bench.start();
    let filler = bench.path("slot0/somebody-elses");
    fs::write(&filler, vec![1; 100 << 20]).expect("fills");
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    assert_eq!(seen.slots[0].blocked.as_ref().expect("blocked").code, ErrorCode::DISK_FULL);
    let sector = manager.offer(1).await;
    fs::remove_file(&filler).expect("removes");
    manager.see_through(sector, "finished").await;
}

#[tokio::test]
async fn a_slot_that_is_removed_under_its_sector_is_told_while_the_others_go_on() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 2);
    let _worker = bench.start();
    bench.hold("tree_d");
    let lost = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    let seen = manager.heartbeat_with("a sector", |seen| seen.slots.iter().any(|slot| slot.holding.is_some())).await;
    let at = seen.slots.iter().position(|slot| slot.holding.is_some()).expect("held");
    let slot = PathBuf::from(&seen.slots[at].path);
    fs::remove_dir_all(&slot).expect("removes");
    bench.let_go("tree_d");
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[at].blocked.is_some()).await;
    let report = seen.slots[at].blocked.as_ref().expect("blocked");
    assert_eq!((report.class, report.code.clone()), (ErrorClass::Crit, ErrorCode::SLOT_UNUSABLE));
    assert!(report.message().contains("slots release"), "{}", report.message());
    assert!(seen.slots[at].holding.is_some(), "what was lost with it is named");
    for number in [2, 3] {
        let sector = manager.offer(number).await;
        manager.see_through(sector, "finished").await;
    }
    assert!(!slot.exists(), "no empty directory takes the place of the lost one");
    assert_eq!(bench.log().matches("cannot write the journal; trying again").count(), 1, "{}", bench.log());
    assert!(!manager.kinds(lost).contains(&"tree_d_built"), "nothing is reported that no journal has");

    // A person gives the sector up, and later mounts a new disk.
    manager.order(1, false, &[(1, &slot)]).await;
    manager.heartbeat_with("nothing held", |seen| seen.slots[at].holding.is_none()).await;
    fs::create_dir(&slot).expect("directory");
    manager
        .heartbeat_with("the release", |seen| seen.slots[at].released == 1 && seen.slots[at].blocked.is_none())
        .await;
}

#[tokio::test]
async fn an_empty_directory_in_the_place_of_a_slot_is_a_disk_that_is_away() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    manager.heartbeat_with("a slot", |seen| seen.slots[0].identity.is_some() && !seen.slots[0].unreadable).await;
    fs::rename(bench.path("slot0"), bench.path("away")).expect("renames");
    manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    fs::create_dir(bench.path("slot0")).expect("directory");
    eventually("the directory opened", async || bench.path("slot0/slot.lock").exists().then_some(())).await;
    let sector = manager.offer(1).await;
    let away = |slot: &sealbus_schema::message::SlotStatus| {
        slot.blocked.as_ref().is_some_and(|report| report.message().contains("not mounted"))
    };
    let seen = manager.heartbeat_with("a disk that is away", |seen| away(&seen.slots[0])).await;
    assert!(seen.slots[0].unreadable && seen.slots[0].holding.is_none());
    assert!(!bench.path("slot0/sealbus-slot.json").exists(), "it is not made a slot");
    fs::rename(bench.path("slot0"), bench.path("mount-point")).expect("renames");
    fs::rename(bench.path("away"), bench.path("slot0")).expect("renames");
    manager.see_through(sector, "finished").await;
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_under_a_sector_blocks_its_slots_until_it_is_mended() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let mut bench = Bench::new(server.url(), 0);
    let Some(disk) = Tmpfs::mount(&bench.path("disk"), "512m") else { return };
    for name in ["disk/a", "disk/b"] {
        fs::create_dir(bench.path(name)).expect("directory");
        bench.more += &format!("[[slot]]\npath = {name:?}\n");
    }
    let _worker = bench.start();
    bench.hold("tree_d");
    let sector = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    disk.remount("ro");
    bench.let_go("tree_d");
    // One slot cannot write its journal; the other notices the same problem before it takes a sector.
    let seen =
        manager.heartbeat_with("blocked slots", |seen| seen.slots.iter().all(|slot| slot.blocked.is_some())).await;
    assert!(seen.slots.iter().any(|slot| slot.holding.is_some()));
    for slot in &seen.slots {
        let report = slot.blocked.as_ref().expect("blocked");
        assert_eq!((report.class, report.code.clone()), (ErrorClass::Crit, ErrorCode::IO_FAILED));
        assert_eq!((report.host.as_str(), report.slot.as_str()), ("bench", slot.path.as_str()));
    }
    assert!(!manager.kinds(sector).contains(&"tree_d_built"), "nothing is told that no journal has");
    disk.remount("rw");
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
    manager.heartbeat_with("usable slots", |seen| seen.slots.iter().all(|slot| slot.blocked.is_none())).await;
}

#[tokio::test]
async fn a_slot_that_is_put_back_as_it_was_goes_on_with_its_sector() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    bench.hold("tree_d");
    let sector = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    fs::rename(bench.path("slot0"), bench.path("away")).expect("renames");
    bench.let_go("tree_d");
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    assert_eq!(seen.slots[0].blocked.as_ref().expect("blocked").code, ErrorCode::SLOT_UNUSABLE);
    fs::rename(bench.path("away"), bench.path("slot0")).expect("renames");
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
}
