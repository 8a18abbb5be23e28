//! The real parent cache for 2 KiB sectors, damaged.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sealbus_schema::SealProof;
use sealbus_worker::stage::Stage;

use crate::support::Bench;

const SIZE: SealProof = SealProof::StackedDrg2KiBV1_1;

fn cache_in(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").path());
    entries.find(|path| path.extension().is_some_and(|extension| extension == "cache")).expect("a cache")
}

#[test]
fn a_parent_cache_that_is_not_what_was_published_is_made_again_before_labels_depend_on_it() {
    let bench = Bench::prepared(SIZE);
    bench.ask(&bench.pc1()).expect("PC1");
    let labels = fs::read(bench.cache().join("sc-02-data-layer-2.dat")).expect("labels");
    let cache = cache_in(&bench.dir.path().join("parents"));
    let whole = fs::read(&cache).expect("cache");

    // Damage that keeps the size, as in a copy from elsewhere or on a disk that lost a page.
    let made = fs::metadata(&cache).expect("file").modified().expect("time");
    fs::write(&cache, vec![0; whole.len()]).expect("write");
    File::options().write(true).open(&cache).expect("open").set_modified(made + Duration::from_secs(1)).expect("time");
    fs::remove_file(bench.slot().join("pc1.json")).expect("remove");
    fs::remove_file(bench.slot().join("labels.json")).expect("remove");
    bench.ask(&bench.pc1()).expect("PC1");
    assert!(fs::read(cache_in(&bench.dir.path().join("parents"))).expect("cache") == whole);
    assert!(fs::read(bench.cache().join("sc-02-data-layer-2.dat")).expect("labels") == labels);
}

#[test]
fn a_parent_cache_that_somebody_else_made_is_taken_over_once_it_was_compared() {
    let bench = Bench::prepared(SIZE);
    bench.ask(&bench.pc1()).expect("PC1");
    let parents = bench.dir.path().join("parents");
    let cache = cache_in(&parents);
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("file"));
    let before = inode(&cache);
    for record in [parents.join(".sealbus-2048.ready"), bench.slot().join("pc1.json")] {
        fs::remove_file(record).expect("remove");
    }
    bench.ask(&bench.pc1()).expect("PC1");
    assert_eq!(inode(&cache), before, "not made again");
    assert!(parents.join(".sealbus-2048.ready").exists());
}

#[test]
fn processors_that_start_at_once_make_one_parent_cache() {
    let benches = [Bench::prepared(SIZE), Bench::prepared(SIZE)];
    let parents = benches[0].dir.path().join("parents");
    fs::remove_dir(benches[1].dir.path().join("parents")).expect("remove");
    std::os::unix::fs::symlink(&parents, benches[1].dir.path().join("parents")).expect("link");
    let mut processors = benches.each_ref().map(|bench| (bench.processor(Stage::Pc1), bench.pc1()));
    for (processor, request) in &mut processors {
        processor.send(request);
    }
    for (processor, _) in &mut processors {
        let answer = processor.line();
        assert!(answer.contains("output"), "{answer}");
    }
    let caches = fs::read_dir(&parents).expect("list").filter(|entry| {
        entry.as_ref().expect("entry").path().extension().is_some_and(|extension| extension == "cache")
    });
    assert_eq!(caches.count(), 1);
}
