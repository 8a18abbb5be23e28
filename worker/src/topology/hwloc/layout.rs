//! The constants and structures of `hwloc.h` 2.x that we use. They belong to the ABI, which is the same for all 2.x
//! versions.

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

pub(super) const OBJ_PACKAGE: c_uint = 1;
pub(super) const OBJ_CORE: c_uint = 2;
pub(super) const OBJ_PU: c_uint = 3;
pub(super) const OBJ_L3CACHE: c_uint = 6;
pub(super) const OBJ_NUMANODE: c_uint = 13;
pub(super) const OBJ_PCI_DEVICE: c_uint = 15;
pub(super) const OBJ_OS_DEVICE: c_uint = 16;
pub(super) const OSDEV_BLOCK: c_uint = 0;
pub(super) const OSDEV_GPU: c_uint = 1;
pub(super) const OSDEV_COPROC: c_uint = 5;
pub(super) const INCLUDE_DISALLOWED: c_ulong = 1;
pub(super) const KEEP_IMPORTANT: c_uint = 3;
pub(super) const CPUBIND_PROCESS: c_int = 1;
pub(super) const MEMBIND_BIND: c_int = 2;
pub(super) const MEMBIND_THREAD: c_int = 1 << 1;
pub(super) const MEMBIND_STRICT: c_int = 1 << 2;
pub(super) const MEMBIND_BYNODESET: c_int = 1 << 5;

/// The plural name of an object type that can be above cores.
pub(super) fn plural(kind: c_uint) -> &'static str {
    match kind {
        OBJ_PACKAGE => "packages",
        4 => "L1 caches",
        5 => "L2 caches",
        OBJ_L3CACHE => "L3 caches",
        7 => "L4 caches",
        8 => "L5 caches",
        12 => "groups",
        19 => "dies",
        _ => "parts",
    }
}

#[repr(C)]
pub(super) struct Topology {
    _private: [u8; 0],
}

#[repr(C)]
pub(super) struct Bitmap {
    _private: [u8; 0],
}

/// `struct hwloc_obj`.
#[repr(C)]
pub(super) struct Object {
    pub(super) kind: c_uint,
    pub(super) subtype: *mut c_char,
    pub(super) os_index: c_uint,
    pub(super) name: *mut c_char,
    total_memory: u64,
    pub(super) attributes: *mut Attributes,
    depth: c_int,
    logical_index: c_uint,
    next_cousin: *mut Object,
    prev_cousin: *mut Object,
    parent: *mut Object,
    sibling_rank: c_uint,
    pub(super) next_sibling: *mut Object,
    prev_sibling: *mut Object,
    arity: c_uint,
    children: *mut *mut Object,
    pub(super) first_child: *mut Object,
    last_child: *mut Object,
    symmetric_subtree: c_int,
    memory_arity: c_uint,
    pub(super) memory_first_child: *mut Object,
    io_arity: c_uint,
    pub(super) io_first_child: *mut Object,
    misc_arity: c_uint,
    misc_first_child: *mut Object,
    pub(super) cpuset: *mut Bitmap,
    complete_cpuset: *mut Bitmap,
    pub(super) nodeset: *mut Bitmap,
    complete_nodeset: *mut Bitmap,
    pub(super) infos: *mut Info,
    pub(super) infos_count: c_uint,
    userdata: *mut c_void,
    gp_index: u64,
}

/// `union hwloc_obj_attr_u`.
#[repr(C)]
pub(super) union Attributes {
    pub(super) node: NodeAttributes,
    pub(super) cache: CacheAttributes,
    pub(super) pci: PciAttributes,
    pub(super) os_device: OsDeviceAttributes,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct NodeAttributes {
    pub(super) local_memory: u64,
    pub(super) page_types_len: c_uint,
    pub(super) page_types: *mut PageType,
}

#[repr(C)]
pub(super) struct PageType {
    pub(super) size: u64,
    pub(super) count: u64,
}

/// The beginning of `struct hwloc_cache_attr_s`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct CacheAttributes {
    pub(super) size: u64,
}

/// The beginning of `struct hwloc_pcidev_attr_s`, for a library built without 32-bit PCI domains.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct PciAttributes {
    domain: u16,
    bus: u8,
    slot: u8,
    function: u8,
    pub(super) class: u16,
    pub(super) vendor: u16,
    pub(super) device: u16,
}

impl PciAttributes {
    pub(super) fn address(&self) -> String {
        let Self { domain, bus, slot, function, .. } = self;
        format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct OsDeviceAttributes {
    pub(super) kind: c_uint,
}

#[repr(C)]
pub(super) struct Info {
    pub(super) name: *mut c_char,
    pub(super) value: *mut c_char,
}
