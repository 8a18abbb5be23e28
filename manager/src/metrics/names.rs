//! Every metric of the manager. `docs/metrics.md` has the same table.
//!
//! Labels are bounded: by the configuration (miners, stores), by this program (states, kinds, codes, streams), or by the
//! fleet (workers). None is a sector or free text.

sealbus_nats::metrics! {
    /// 1, with the version and its commit.
    BUILD: Gauge "sealbus_manager_build_info" [version];
    /// 1 if this manager holds the fold and works; 0 if it stands by, or waits for something that its start needs.
    WORKS: Gauge "sealbus_manager_works" [];
    /// The age of the last look, from which everything but the process's own metrics comes.
    LOOK_AGE: Gauge "sealbus_manager_look_age_seconds" [];
    /// How long the last look took.
    LOOK_TOOK: Gauge "sealbus_manager_look_duration_seconds" [];
    /// 1 if a part of the last look succeeded; 0 if its metrics are missing.
    PART: Gauge "sealbus_manager_look_complete" [part];
    /// Series that were left out, because a metric had too many.
    LEFT_OUT: Gauge "sealbus_manager_series_left_out" [];

    /// Unfinished jobs.
    JOBS: Gauge "sealbus_jobs" [workflow, state];
    /// How long ago the job changed that has been in its state for the longest time.
    JOBS_OLDEST: Gauge "sealbus_jobs_oldest_seconds" [workflow, state];
    /// Unfinished jobs that are blocked until a person decides, by the cause.
    JOBS_BLOCKED: Gauge "sealbus_jobs_blocked" [class, code];
    /// The epochs until the next job loses its ticket, or its PreCommit deposit.
    EXPIRY: Gauge "sealbus_jobs_expiry_epochs" [limit];
    /// Jobs whose ticket expires within 120 epochs, or whose PreCommit within 2880.
    EXPIRING: Gauge "sealbus_jobs_expiring" [limit];
    /// What is retried until it succeeds, by what waits and why.
    WAITS: Gauge "sealbus_waits" [kind, class, code];
    /// How long the oldest of them has waited.
    WAITS_OLDEST: Gauge "sealbus_waits_oldest_seconds" [kind, class, code];
    /// Records that are decided but not yet published.
    OUTBOX: Gauge "sealbus_outbox_records" [];
    /// Records of the sectors' log that are not folded yet.
    FOLD_LAG: Gauge "sealbus_fold_lag_records" [];

    /// Messages that have not ended, by what they do and how far they are.
    MESSAGES: Gauge "sealbus_messages" [kind, state];
    /// The epochs since the oldest of them that is pushed was signed first.
    MESSAGES_OLDEST: Gauge "sealbus_messages_oldest_epochs" [kind];

    /// Partitions of the last proving period (2880 epochs), by what became of their proof.
    PARTITIONS: Gauge "sealbus_partitions" [miner, state];
    /// Sectors that were left out of these proofs.
    SKIPPED: Gauge "sealbus_partitions_skipped_sectors" [miner];
    /// The least epochs that were left between a proof and the close of its deadline.
    MARGIN: Gauge "sealbus_partitions_margin_epochs" [miner];
    /// Epochs that were won in the last 2880, by what became of the block.
    BLOCKS: Gauge "sealbus_blocks" [miner, state];

    /// The epoch of the chain's head.
    HEAD: Gauge "sealbus_chain_head_epoch" [];
    /// How long the head has been at this epoch.
    HEAD_STILL: Gauge "sealbus_chain_head_still_seconds" [];
    /// How much later than its head's timestamp this machine's clock is.
    HEAD_AGE: Gauge "sealbus_chain_head_age_seconds" [];
    /// The length of an epoch.
    EPOCH: Gauge "sealbus_chain_epoch_seconds" [];
    /// The base fee of the next message, per unit of gas.
    BASE_FEE: Gauge "sealbus_chain_base_fee_attofil" [];
    /// What an address has. An address with several roles is shown with each; `miner` is the miner actor itself, and
    /// `available` what can be withdrawn from it.
    BALANCE: Gauge "sealbus_balance_fil" [miner, role];

    /// The age of a worker's last heartbeat, by the clock of NATS.
    HEARTBEAT_AGE: Gauge "sealbus_fleet_heartbeat_age_seconds" [worker];
    /// Slots, by what they do: `free`, `holds`, `blocked`, `checking`.
    SLOTS: Gauge "sealbus_fleet_slots" [worker, state];
    /// Blocked slots, by the cause.
    SLOTS_BLOCKED: Gauge "sealbus_fleet_slots_blocked" [worker, class, code];
    /// 1 if a worker takes no new jobs.
    DRAINING: Gauge "sealbus_fleet_draining" [worker];
    /// How often a worker has seen an invariant broken since its start.
    WORKER_BROKEN: Gauge "sealbus_fleet_broken_invariants" [worker];
    /// How often the manager has seen an invariant broken, ever.
    BROKEN: Counter "sealbus_broken_invariants_total" [invariant];
    /// How often orders stood on the bus that nobody had given here, ever.
    FORGED: Counter "sealbus_forged_orders_total" [];

    /// 1 if there is a connection to NATS.
    NATS: Gauge "sealbus_nats_connected" [];
    /// How often a connection was made since the start.
    NATS_CONNECTIONS: Counter "sealbus_nats_connections_total" [];
    /// How full a stream is.
    STREAM_BYTES: Gauge "sealbus_stream_bytes" [stream];
    /// How large it may be. Missing if it has no limit.
    STREAM_MAX: Gauge "sealbus_stream_max_bytes" [stream];
    /// How many messages it has.
    STREAM_MESSAGES: Gauge "sealbus_stream_messages" [stream];
    /// How much later this machine's clock is than that of NATS.
    CLOCK: Gauge "sealbus_clock_offset_seconds" [];
    /// The free bytes of a permanent store, or of the database's file system.
    DISK_FREE: Gauge "sealbus_disk_free_bytes" [disk];
    /// All its bytes.
    DISK_SIZE: Gauge "sealbus_disk_size_bytes" [disk];
}
