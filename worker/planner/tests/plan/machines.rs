//! Machines to plan for, built from a few numbers.

use sealbus_planner::machine::{Cache, Core, CpuSet, Disk, Gpu, Machine, Node, Sight};

pub const GIB: u64 = 1 << 30;

/// How the operating system numbers the hardware threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// First the first threads of all cores, then the second ones.
    ThreadsApart,
    /// The threads of a core have consecutive numbers.
    ThreadsTogether,
    /// Even numbers on the first socket and odd ones on the second; first threads before second ones.
    SocketsInTurn,
}

#[derive(Clone, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub packages: usize,
    pub nodes_each: usize,
    pub caches_each: usize,
    pub cores_each: usize,
    pub threads: usize,
    pub node_memory: u64,
    pub numbers: Numbers,
    /// The nearest node of each GPU.
    pub gpus: Vec<usize>,
    pub disks: usize,
    pub disk_bytes: u64,
}

impl Shape {
    pub fn new(name: &'static str, [packages, nodes_each, caches_each, cores_each, threads]: [usize; 5]) -> Self {
        Self {
            name,
            packages,
            nodes_each,
            caches_each,
            cores_each,
            threads,
            node_memory: 256 * GIB,
            numbers: Numbers::ThreadsApart,
            gpus: Vec::new(),
            disks: 0,
            disk_bytes: 0,
        }
    }

    pub fn machine(&self) -> Machine {
        let nodes = self.packages * self.nodes_each;
        let caches = nodes * self.caches_each;
        let cores = caches * self.cores_each;
        let machine_caches = (0..caches).map(|cache| Cache {
            bytes: 32 << 20,
            package: cache / (self.nodes_each * self.caches_each),
            node: cache / self.caches_each,
            cores_present: self.cores_each,
        });
        let machine_cores =
            (0..cores).map(|core| Core { units: self.units(core, cores), cache: core / self.cores_each });
        let (machine_caches, machine_cores): (Vec<Cache>, Vec<Core>) =
            (machine_caches.collect(), machine_cores.collect());
        Machine {
            sight: Sight::of_l3s(&machine_cores, &machine_caches),
            source: self.name.to_owned(),
            present: (0..(cores * self.threads) as u32).collect(),
            nodes_present: (0..nodes as u32).collect(),
            packages: self.packages,
            nodes: (0..nodes).map(|node| self.node(node)).collect(),
            caches: machine_caches,
            cores: machine_cores,
            gpus: self.gpus.iter().enumerate().map(|(number, &node)| gpu(number, node)).collect(),
            disks: (0..self.disks).map(|number| disk(number, self.disk_bytes)).collect(),
            memory_max_bytes: None,
        }
    }

    fn units(&self, core: usize, cores: usize) -> CpuSet {
        let each = cores / self.packages;
        (0..self.threads)
            .map(|thread| match self.numbers {
                Numbers::ThreadsApart => core + thread * cores,
                Numbers::ThreadsTogether => core * self.threads + thread,
                Numbers::SocketsInTurn => (core % each) * self.packages + core / each + thread * cores,
            })
            .map(|unit| unit as u32)
            .collect()
    }

    fn node(&self, node: usize) -> Node {
        Node {
            os_index: node as u32,
            package: Some(node / self.nodes_each),
            memory_bytes: self.node_memory,
            has_cores: true,
            huge_pages: Vec::new(),
        }
    }
}

pub fn gpu(number: usize, node: usize) -> Gpu {
    let (id, name) = (number.to_string(), "a GPU".to_owned());
    Gpu { id, vendor: Gpu::NVIDIA, name, pci: None, node: Some(node), memory_bytes: 24 * GIB }
}

fn disk(number: usize, bytes: u64) -> Disk {
    Disk {
        name: format!("nvme{number}n1"),
        model: "an NVMe".to_owned(),
        bytes,
        pci: None,
        node: None,
        rotational: false,
    }
}

/// The machine as a worker sees it whose affinity allows only these units.
pub fn bound_to(machine: &Machine, allowed: &str) -> Machine {
    machine.restricted_to(&allowed.parse().expect("a list")).expect("are there")
}

/// The machine as a worker sees it whose cgroup allows only these units.
pub fn restricted(machine: &Machine, allowed: &str) -> Machine {
    let allowed: CpuSet = allowed.parse().expect("a list");
    Machine { sight: machine.sight.within(&allowed), ..bound_to(machine, &allowed.to_string()) }
}

/// Two sockets, 64 cores, 16 L3 caches of 4 cores.
pub fn epyc_of_4() -> Machine {
    Shape {
        node_memory: 512 * GIB,
        gpus: vec![0, 1],
        disks: 8,
        disk_bytes: 3_840_755_982_336,
        ..Shape::new("two-socket EPYC, 16 L3 of 4", [2, 1, 8, 4, 2])
    }
    .machine()
}

/// Two sockets of 64 cores, 16 L3 caches of 8 cores.
pub fn epyc_of_8() -> Machine {
    Shape {
        node_memory: 1024 * GIB,
        gpus: vec![0, 0, 1, 1],
        disks: 12,
        disk_bytes: 7_681_501_126_656,
        ..Shape::new("two-socket EPYC, 16 L3 of 8", [2, 1, 8, 8, 2])
    }
    .machine()
}

/// One socket, 16 cores, 2 L3 caches.
pub fn ryzen() -> Machine {
    Shape {
        node_memory: 128 * GIB,
        gpus: vec![0],
        disks: 2,
        disk_bytes: 4_000_787_030_016,
        ..Shape::new("one-socket Ryzen", [1, 1, 2, 8, 2])
    }
    .machine()
}

/// Two sockets with sub-NUMA clustering: 4 nodes, each with 16 cores that share an L3 cache.
pub fn intel_snc() -> Machine {
    Shape {
        gpus: vec![2],
        disks: 6,
        disk_bytes: 3_840_755_982_336,
        ..Shape::new("two-socket Intel with SNC", [2, 2, 1, 16, 2])
    }
    .machine()
}

/// Two sockets whose cpu numbers alternate.
pub fn intel_in_turn() -> Machine {
    Shape {
        numbers: Numbers::SocketsInTurn,
        node_memory: 384 * GIB,
        gpus: vec![0],
        disks: 4,
        disk_bytes: 3_840_755_982_336,
        ..Shape::new("two-socket Intel, cpus in turn", [2, 1, 1, 16, 2])
    }
    .machine()
}

/// Four sockets with 24 cores each.
pub fn four_sockets() -> Machine {
    let shape = Shape::new("four-socket", [4, 1, 1, 24, 2]);
    Shape { node_memory: 384 * GIB, gpus: vec![1, 3], ..shape }.machine()
}

/// One socket, two of whose cores the worker may not use: L3 caches of 6 and 8 cores.
pub fn uneven() -> Machine {
    let shape = Shape::new("uneven, 6 and 8 cores", [1, 1, 2, 8, 2]);
    let whole = Shape { node_memory: 512 * GIB, gpus: vec![0], disks: 4, disk_bytes: 3_840_755_982_336, ..shape };
    restricted(&whole.machine(), "0-5,8-21,24-31")
}

/// L3 caches of 6, 8 and 8 cores: 22 cores cannot be divided by 3.
pub fn uneven_by_three() -> Machine {
    let shape = Shape::new("uneven, 6, 8 and 8 cores", [1, 1, 3, 8, 1]);
    let whole = Shape { node_memory: 512 * GIB, gpus: vec![0], disks: 4, disk_bytes: 3_840_755_982_336, ..shape };
    restricted(&whole.machine(), "0-5,8-23")
}

/// A virtual machine.
pub fn small_vm() -> Machine {
    Shape { node_memory: 8 * GIB, ..Shape::new("virtual machine", [1, 1, 1, 2, 1]) }.machine()
}

/// [`epyc_of_4`], restricted to one socket and 400 GiB.
pub fn half_an_epyc() -> Machine {
    let machine = restricted(&epyc_of_4(), "0-31,64-95");
    Machine { source: "half of a two-socket EPYC".to_owned(), memory_max_bytes: Some(400 * GIB), ..machine }
}
