//! Information that comes from the system's files and not from hwloc, read from made-up trees of files.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use sealbus_worker::topology::{HugePages, Node, system::System};
use tempfile::TempDir;

use super::set;

struct Tree(TempDir);

impl Tree {
    fn with(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().expect("directory"));
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, text).expect("file");
    }

    fn link(&self, at: &str, to: &str) {
        let at = self.path(at);
        fs::create_dir_all(at.parent().expect("parent")).expect("directory");
        symlink(Path::new(to), at).expect("link");
    }

    fn system(&self) -> System {
        System::below(self.0.path())
    }
}

fn node(os_index: u32) -> Node {
    Node { os_index, package: None, memory_bytes: 1 << 30, has_cores: true, huge_pages: Vec::new() }
}

#[test]
fn what_the_worker_was_given_is_what_its_status_says() {
    let tree = Tree::with(&[("proc/self/status", "Cpus_allowed_list:\t0-3,8\nMems_allowed_list:\t1\n")]);
    let given = tree.system().given().expect("given");
    assert_eq!((given.units, given.nodes), (set("0-3,8"), set("1")));
    tree.write("proc/self/status", "Cpus_allowed_list:\t0-1\n");
    assert_eq!(tree.system().given().expect("given").nodes, set("0"), "a kernel without NUMA");
    tree.write("proc/self/status", "Cpus_allowed_list:\tmany\n");
    assert!(tree.system().given().expect_err("no list").to_string().contains("a line Cpus_allowed_list"));
    tree.write("proc/self/status", "Name:\tworker\n");
    assert!(tree.system().given().expect_err("no line").to_string().ends_with("has no line Cpus_allowed_list"));
}

#[test]
fn the_smallest_memory_limit_on_the_way_up_counts_in_cgroup_v2() {
    let tree = Tree::with(&[
        ("proc/self/cgroup", "0::/sealing.slice/worker.service\n"),
        ("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"),
        ("sys/fs/cgroup/sealing.slice/memory.max", "1000\n"),
        ("sys/fs/cgroup/sealing.slice/worker.service/memory.max", "max\n"),
    ]);
    assert_eq!(tree.system().memory_max(), Some(1000));
    tree.write("sys/fs/cgroup/sealing.slice/worker.service/memory.max", "900\n");
    assert_eq!(tree.system().memory_max(), Some(900));
    tree.write("proc/self/cgroup", "0::/../../elsewhere\n");
    assert_eq!(tree.system().memory_max(), None, "a cgroup outside what is mounted has no file here");
}

#[test]
fn a_memory_limit_of_cgroup_v1_counts_also_in_a_container() {
    let tree = Tree::with(&[
        ("proc/self/cgroup", "4:cpu,cpuacct:/\n3:memory:/docker/abc\n0::/\n"),
        (
            "proc/self/mountinfo",
            "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             36 31 0:33 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n",
        ),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ]);
    assert_eq!(tree.system().memory_max(), None, "the largest number means none");
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
    assert_eq!(tree.system().memory_max(), Some(4096));
    assert_eq!(Tree::with(&[]).system().memory_max(), None);
}

#[test]
fn huge_pages_are_counted_by_node() {
    let tree = Tree::with(&[
        ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "512\n"),
        ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "500\n"),
        ("sys/devices/system/node/node0/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
        ("sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages", "64\n"),
        ("sys/devices/system/node/node1/hugepages/hugepages-1048576kB/free_hugepages", "64\n"),
    ]);
    let mut nodes = [node(0), node(1), node(2)];
    tree.system().count_huge_pages(&mut nodes);
    assert_eq!(nodes[0].huge_pages, [HugePages { page_bytes: 2 << 20, total: 512, free: 500 }]);
    assert_eq!(nodes[1].huge_pages, [HugePages { page_bytes: 1 << 30, total: 64, free: 64 }]);
    assert_eq!(nodes[2].huge_pages, []);

    let tree = Tree::with(&[("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "3\n")]);
    let mut nodes = [node(0)];
    tree.system().count_huge_pages(&mut nodes);
    assert_eq!(nodes[0].huge_pages, [HugePages { page_bytes: 2 << 20, total: 3, free: 0 }]);
}

fn pci(tree: &Tree, address: &str, vendor: &str, class: &str, node: &str) {
    let device = format!("sys/bus/pci/devices/{address}");
    for (file, text) in [("vendor", vendor), ("class", class), ("device", "0x2330"), ("numa_node", node)] {
        tree.write(&format!("{device}/{file}"), &format!("{text}\n"));
    }
}

#[test]
fn cards_are_found_by_pci_and_told_of_by_the_driver() {
    let tree = Tree::with(&[(
        "proc/driver/nvidia/gpus/0000:41:00.0/information",
        "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 234\nGPU UUID: \t GPU-0a1b2c3d-0000-1111-2222-333344445555\n\
         Bus Location: \t 0000:41:00.0\nDevice Minor: \t 0\n",
    )]);
    pci(&tree, "0000:41:00.0", "0x10de", "0x030200", "1");
    pci(&tree, "0000:42:00.0", "0x10de", "0x030000", "-1");
    pci(&tree, "0000:42:00.1", "0x10de", "0x040300", "0"); // The card's audio device.
    pci(&tree, "0000:05:00.0", "0x1a03", "0x030000", "0"); // The mainboard's own display.
    pci(&tree, "0000:43:00.0", "0x10de", "0x030200", "0");
    tree.link("sys/bus/pci/devices/0000:43:00.0/driver", "../../../bus/pci/drivers/vfio-pci");
    let cards = tree.system().cards();
    let found: Vec<_> = cards.iter().map(|card| (card.pci.as_str(), card.numa_node, card.given_away)).collect();
    let expected = [("0000:41:00.0", Some(1), false), ("0000:42:00.0", None, false), ("0000:43:00.0", Some(0), true)];
    assert_eq!(found, expected);
    assert_eq!(cards[0].uuid.as_deref(), Some("GPU-0a1b2c3d-0000-1111-2222-333344445555"));
    assert_eq!(cards[0].name.as_deref(), Some("NVIDIA H100 80GB HBM3"));
    assert_eq!((cards[1].uuid.clone(), cards[1].name.clone(), cards[1].device), (None, None, 0x2330));
}

#[test]
fn a_card_whose_device_file_this_container_lacks_is_not_ours() {
    let information = |minor: u32| format!("Model: \t X\nGPU UUID: \t GPU-????????-????\nDevice Minor: \t {minor}\n");
    let tree = Tree::with(&[
        ("proc/driver/nvidia/gpus/0000:41:00.0/information", &information(0)),
        ("proc/driver/nvidia/gpus/0000:42:00.0/information", &information(1)),
    ]);
    let given_away = |tree: &Tree| tree.system().cards().iter().map(|card| card.given_away).collect::<Vec<_>>();
    tree.write("dev/nvidiactl", "");
    assert_eq!(given_away(&tree), [false, false], "before CUDA is first used nobody has any");
    tree.write("dev/nvidia1", "");
    assert_eq!(given_away(&tree), [true, false]);
    assert_eq!(tree.system().cards()[1].uuid, None, "a UUID that the driver has not read yet");
}

/// Creates a disk below a PCI device, in the kernel's layout.
fn disk(tree: &Tree, name: &str, place: &str, rotational: &str) {
    tree.write(&format!("sys/devices/{place}/{name}/size"), "7501476528\n");
    tree.write(&format!("sys/devices/{place}/{name}/queue/rotational"), rotational);
    tree.write(&format!("sys/devices/{place}/{name}/device/model"), "MODEL X   \n");
    tree.link(&format!("sys/block/{name}"), &format!("../devices/{place}/{name}"));
}

#[test]
fn disks_are_physical_ones_with_their_place() {
    let tree = Tree::with(&[
        ("sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/numa_node", "1\n"),
        ("sys/devices/pci0000:00/0000:00:17.0/numa_node", "-1\n"),
        ("sys/devices/virtual/block/dm-0/size", "100\n"),
        ("sys/devices/virtual/block/loop0/size", "100\n"),
    ]);
    disk(&tree, "nvme0n1", "pci0000:40/0000:40:01.1/0000:41:00.0/nvme/nvme0", "0");
    disk(&tree, "sda", "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block", "1");
    disk(&tree, "vda", "pci0000:00/0000:00:05.0/virtio1/block", "1");
    disk(&tree, "sdb", "pci0000:00/0000:00:14.0/usb1/block", "1");
    tree.write("sys/devices/pci0000:00/0000:00:14.0/usb1/block/sdb/removable", "1\n");
    for name in ["dm-0", "loop0"] {
        tree.link(&format!("sys/block/{name}"), &format!("../devices/virtual/block/{name}"));
    }
    let disks = tree.system().disks(&[node(0), node(1)], &set("0-1"));
    let found: Vec<_> = disks.iter().map(|disk| (disk.name.as_str(), disk.node, disk.rotational)).collect();
    assert_eq!(found, [("nvme0n1", Some(1), false), ("sda", None, true), ("vda", None, false)]);
    assert_eq!((disks[0].bytes, disks[0].model.as_str()), (7_501_476_528 * 512, "MODEL X"));
    assert_eq!(disks[0].pci.as_deref(), Some("0000:41:00.0"));
    assert_eq!(disks[1].pci.as_deref(), Some("0000:00:17.0"));
    // On a machine with a single node, everything is nearest to that node. That does not hold if it is only the single
    // usable one.
    assert_eq!(tree.system().disks(&[node(0)], &set("0"))[1].node, Some(0));
    assert_eq!(tree.system().disks(&[node(0)], &set("0-1"))[1].node, None);
}

#[test]
fn an_nvme_disk_with_several_paths_is_one_disk_at_its_first_path() {
    let controller = "pci0000:80/0000:80:03.1/0000:81:00.0/nvme/nvme3";
    let tree = Tree::with(&[("sys/devices/pci0000:80/0000:80:03.1/0000:81:00.0/numa_node", "1\n")]);
    disk(&tree, "nvme3n1", "virtual/nvme-subsystem/nvme-subsys3", "0");
    disk(&tree, "nvme3c3n1", controller, "0");
    tree.write(&format!("sys/devices/{controller}/nvme3c3n1/hidden"), "1\n");
    tree.link("sys/devices/virtual/nvme-subsystem/nvme-subsys3/nvme3", &format!("../../../{controller}"));
    let disks = tree.system().disks(&[node(0), node(1)], &set("0-1"));
    let found: Vec<_> = disks.iter().map(|disk| (disk.name.as_str(), disk.node, disk.pci.as_deref())).collect();
    assert_eq!(found, [("nvme3n1", Some(1), Some("0000:81:00.0"))]);
}
