//! Every metric of the worker. `docs/metrics.md` has the same table.
//!
//! Labels are bounded by the configuration (slots, disks) or by this program (states, stages, classes, codes).

sealbus_nats::metrics! {
    /// 1, with the version and its commit.
    BUILD: Gauge "sealbus_worker_build_info" [version];
    /// 1 if the worker has connected to NATS and serves its slots; 0 if it waits for something that its start needs.
    SERVES: Gauge "sealbus_worker_serves" [];
    /// The age of the last look, from which everything but the process's own metrics comes.
    LOOK_AGE: Gauge "sealbus_worker_look_age_seconds" [];
    /// 1 if there is a connection to NATS.
    NATS: Gauge "sealbus_worker_nats_connected" [];
    /// How often a connection was made since the start.
    NATS_CONNECTIONS: Counter "sealbus_worker_nats_connections_total" [];
    /// How long ago NATS stored the last heartbeat. Missing until the first.
    HEARTBEAT_AGE: Gauge "sealbus_worker_heartbeat_age_seconds" [];
    /// 1 if the worker takes no new jobs.
    DRAINING: Gauge "sealbus_worker_draining" [];
    /// Slots, by what they do: `free`, `holds`, `blocked`, `checking`.
    SLOTS: Gauge "sealbus_worker_slots" [state];
    /// 1 for a blocked slot, with the cause.
    BLOCKED: Gauge "sealbus_worker_slot_blocked" [slot, class, code];
    /// Processors that work on a request.
    BUSY: Gauge "sealbus_worker_processors_busy" [stage];
    /// All processors.
    PROCESSORS: Gauge "sealbus_worker_processors" [stage];
    /// How long the oldest request has been worked on.
    OLDEST: Gauge "sealbus_worker_request_oldest_seconds" [stage];
    /// How often an invariant was seen broken since the start.
    BROKEN: Counter "sealbus_worker_broken_invariants_total" [];
    /// The free bytes of a slot's file system, or of the permanent store.
    DISK_FREE: Gauge "sealbus_worker_disk_free_bytes" [disk];
    /// All its bytes.
    DISK_SIZE: Gauge "sealbus_worker_disk_size_bytes" [disk];
}
