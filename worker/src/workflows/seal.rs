//! Sealing on a worker: each step's request to its stage, and what the stage's answer means.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport,
    parts::{PreCommitInfo, StoredSector, Ticket},
    workflows::seal::{
        Fact,
        worker::{Progress, Seal, Step},
    },
};
use serde_json::{Value, from_value};

use super::{Expiry, Work, Workplace};
use crate::stage::{Json, add_pieces, c1, c2, pc1, pc2, transfer, tree_d, workspace::UNSEALED_FILE};

/// Labelling is no longer started when the ticket expires within this many epochs.
const TICKET_MARGIN_EPOCHS: i64 = 60;

impl Work for Seal {
    fn request(step: &Step, at: &Workplace) -> Option<serde_json::Result<Json>> {
        let (work_dir, proof, sector) = (at.work_dir.clone(), at.intent.proof, at.intent.sector);
        Some(match step {
            Step::AddingPieces { .. } => Json::of(&add_pieces::Request::committed_capacity(work_dir, proof)),
            Step::BuildingTreeD { pieces, .. } => {
                let (pieces, static_dirs) = (pieces.clone(), at.static_dirs.clone());
                Json::of(&tree_d::Request { work_dir, proof, pieces, static_dirs })
            }
            Step::Pc1 { data, ticket } => {
                let (ticket, pieces) = (ticket.randomness, data.pieces.clone());
                Json::of(&pc1::Request { work_dir, proof, sector, ticket, pieces })
            }
            Step::Pc2 { data, ticket } => {
                let (ticket, pieces) = (ticket.randomness, data.pieces.clone());
                Json::of(&pc2::Request { work_dir, proof, sector, ticket, pieces })
            }
            Step::Transferring { replica, .. } => Json::of(&transfer::Request {
                work_dir,
                store_dir: at.store.path.clone(),
                store_name: at.store.name.clone(),
                store_id: at.store_id.clone(),
                sector,
                token: at.token,
                comm_r: replica.comm_r,
            }),
            Step::C1 { replica, seed, .. } => {
                let (ticket, seed, comm_r) = (replica.ticket.randomness, seed.randomness, replica.comm_r);
                let pieces = replica.data.pieces.clone();
                Json::of(&c1::Request { work_dir, proof, sector, ticket, seed, comm_r, pieces })
            }
            Step::C2 { replica, seed, .. } => {
                let (ticket, seed) = (replica.ticket.randomness, seed.randomness);
                Json::of(&c2::Request { work_dir, proof, sector, ticket, seed })
            }
            Step::AwaitingPc1Room { .. }
            | Step::AwaitingTicket { .. }
            | Step::AwaitingPreCommit { .. }
            | Step::AwaitingPersistCheck { .. }
            | Step::AwaitingSeed { .. }
            | Step::AwaitingProveCommit { .. } => return None,
        })
    }

    fn output(step: &Step, output: Value, at: &Workplace, found: Option<String>) -> serde_json::Result<Progress> {
        Ok(match step {
            Step::AddingPieces { .. } => {
                Progress::PiecesAdded { pieces: from_value::<add_pieces::Response>(output)?.pieces }
            }
            Step::BuildingTreeD { .. } => {
                Progress::TreeDBuilt { comm_d: from_value::<tree_d::Response>(output)?.comm_d }
            }
            Step::Pc1 { .. } => from_value::<pc1::Response>(output).map(|_| Progress::Pc1Done)?,
            Step::Pc2 { .. } => {
                let pc2::Response { comm_r, comm_d } = from_value(output)?;
                Progress::Pc2Done { comm_r, comm_d }
            }
            Step::Transferring { .. } => {
                let files = from_value::<transfer::Response>(output)?.files;
                Progress::Persisted { stored: StoredSector { store: at.store.name.clone(), files, identity: found } }
            }
            Step::C1 { .. } => from_value::<c1::Response>(output).map(|_| Progress::C1Done)?,
            Step::C2 { .. } => Progress::C2Done { proof: from_value::<c2::Response>(output)?.proof },
            other => return Err(serde::de::Error::custom(format_args!("step {} has no output", other.name()))),
        })
    }

    fn room_seen(step: &Step) -> Option<Progress> {
        matches!(step, Step::AwaitingPc1Room { .. }).then_some(Progress::Pc1RoomSeen)
    }

    /// If the directory is missing at a later step, its files are missing too, and that step must report it.
    fn makes_work_dir(step: &Step) -> bool {
        matches!(step, Step::AddingPieces { .. })
    }

    /// After C1 the staged data is no longer needed. Layers and trees stay, because C1 needs them again if the seed
    /// changes.
    fn spent(progress: &Progress) -> &'static [&'static str] {
        match progress {
            Progress::C1Done => &[UNSEALED_FILE],
            _ => &[],
        }
    }

    fn expiry(step: &Step) -> Option<Expiry> {
        Some(match step {
            Step::Pc1 { ticket, .. } | Step::Pc2 { ticket, .. } => Expiry {
                told_by: Fact::TICKET,
                head_epoch: ticket.head_epoch,
                epoch_millis: ticket.epoch_millis,
                last_epoch: last_start(ticket),
            },
            Step::Transferring { precommit, .. } | Step::C1 { precommit, .. } | Step::C2 { precommit, .. } => Expiry {
                told_by: Fact::PRECOMMIT_LANDED,
                head_epoch: precommit.head_epoch,
                epoch_millis: precommit.epoch_millis,
                last_epoch: precommit.prove_by_epoch,
            },
            _ => return None,
        })
    }

    fn refuse_to_start(step: &Step, epoch: i64) -> Option<Result<Progress, ErrorReport>> {
        match step {
            Step::Pc1 { ticket, .. } if epoch >= last_start(ticket) => {
                tracing::warn!(
                    draw = ticket.draw,
                    expires_epoch = ticket.expires_epoch,
                    "ticket expired; asking for another"
                );
                Some(Ok(Progress::TicketExpired))
            }
            Step::C1 { precommit, .. } | Step::C2 { precommit, .. } if came_late(precommit) => {
                let message = format!("the chain takes no proof after epoch {}", precommit.prove_by_epoch);
                // The deposit is at stake, so a person decides, whatever the code's usual class is.
                Some(Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PRECOMMIT_EXPIRED, message)))
            }
            // The epoch is an estimate, so nothing final may follow from it. A useless proof costs little, but giving up
            // by mistake costs the deposit. The manager knows the chain, and blocks the sector if it is too late.
            Step::C1 { precommit, .. } | Step::C2 { precommit, .. } if epoch > precommit.prove_by_epoch => {
                tracing::warn!(
                    prove_by_epoch = precommit.prove_by_epoch,
                    told_at_epoch = precommit.head_epoch,
                    "by the time that has passed since the manager told of it, the PreCommit can hardly be proven any \
                     more; proving it all the same, the manager decides"
                );
                None
            }
            _ => None,
        }
    }
}

/// The first epoch at which labelling with this ticket is no longer started.
fn last_start(ticket: &Ticket) -> i64 {
    ticket.expires_epoch.saturating_sub(TICKET_MARGIN_EPOCHS)
}

/// Whether the PreCommit had already expired when the manager reported it, whatever time it is now.
fn came_late(precommit: &PreCommitInfo) -> bool {
    precommit.head_epoch > precommit.prove_by_epoch
}

#[cfg(test)]
mod tests;
