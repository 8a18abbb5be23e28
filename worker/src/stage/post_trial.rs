//! A vanilla proof for trying out a prover, of a sector of any size, without a sector.
//!
//! Its replica is all zeros. All nodes on one level of the tree over it are equal then, so a leaf's path takes one hash a
//! level, and no file. The proof is a true one, and so is the SNARK that is made of it: every part of a prover works as
//! for a real sector. No chain knows such a sector.

use bincode::{deserialize, serialize};
use filecoin_hashers::{HashFunction, Hasher};
use filecoin_proofs::types::{FallbackPoStSectorProof, MerkleProof, MerkleTreeTrait};
use filecoin_proofs::with_shape;
use filecoin_proofs_api::{RegisteredPoStProof, post as library};
use sealbus_schema::post::PostKind;
use sealbus_schema::{Commitment, MinerId, ProofBytes, Randomness, SealProof, SectorNumber};
use storage_proofs_core::merkle::{InclusionPath, PathElement, compound_path_length};
use storage_proofs_post::fallback::{Proof, SectorProof};
use typenum::Unsigned;

use super::{StageError, post, sector};

/// The sector's number. Its miner is f00.
pub const NUMBER: SectorNumber = SectorNumber(0);
/// The miner.
pub const MINER: MinerId = MinerId(0);
/// The randomness.
pub const RANDOMNESS: Randomness = Randomness([0; 32]);

/// The sector's CommR, and its vanilla proof for [`RANDOMNESS`].
///
/// # Errors
/// Errors of the library.
pub fn vanilla(proof: SealProof, kind: PostKind) -> Result<(Commitment, ProofBytes), StageError> {
    let kind = post::registered(proof, kind)?;
    let made = with_shape!(proof.sector_size().bytes(), vanilla_in, kind);
    made.map_err(|error| StageError::library("make up a vanilla proof", &error))
}

fn vanilla_in<Tree: 'static + MerkleTreeTrait>(
    kind: RegisteredPoStProof,
) -> Result<(Commitment, ProofBytes), anyhow::Error> {
    let (number, prover) = (sector::api_number(NUMBER), sector::prover_id(MINER));
    let challenges = library::generate_fallback_sector_challenges(kind, &RANDOMNESS.0, &[number], prover)?;
    let leaves = usize::try_from(u64::from(kind.sector_size()) / 32)?;
    let arities = arities::<Tree>(leaves);
    // The root, and on each level from the leaves on the other nodes of a group.
    let (mut node, mut groups) = (<Tree::Hasher as Hasher>::Domain::default(), Vec::new());
    for arity in &arities {
        let others = vec![node; arity - 1];
        let step = PathElement::from((others.clone(), 0));
        node = InclusionPath::<Tree::Hasher, Tree::Arity>::from(vec![step]).root(node);
        groups.push(others);
    }
    let path = |challenge: &u64| {
        let mut rest = *challenge as usize;
        let steps = groups.iter().zip(&arities).map(|(group, arity)| {
            let index = rest % arity;
            rest /= arity;
            (group.clone(), index)
        });
        MerkleProof::from_parts(Default::default(), node, steps.collect())
    };
    let inclusion_proofs = challenges.values().flatten().map(path).collect();
    let comm_c = Default::default();
    let comm_r = <Tree::Hasher as Hasher>::Function::hash2(&comm_c, &node);
    let sectors = vec![SectorProof { inclusion_proofs, comm_c, comm_r_last: node }];
    let vanilla = FallbackPoStSectorProof::<Tree> { sector_id: number, comm_r, vanilla_proof: Proof { sectors } };
    let bytes = serialize(&vanilla)?;
    // It is read by others in this form.
    deserialize::<FallbackPoStSectorProof<Tree>>(&bytes)?;
    Ok((Commitment::try_from(AsRef::<[u8]>::as_ref(&comm_r))?, ProofBytes(bytes)))
}

/// How many nodes make a group on each level of a sector's tree, from the leaves on.
fn arities<Tree: MerkleTreeTrait>(leaves: usize) -> Vec<usize> {
    let above: Vec<usize> =
        [Tree::SubTreeArity::to_usize(), Tree::TopTreeArity::to_usize()].into_iter().filter(|n| *n > 0).collect();
    let levels = compound_path_length::<Tree::Arity, Tree::SubTreeArity, Tree::TopTreeArity>(leaves);
    let mut arities = vec![Tree::Arity::to_usize(); levels - above.len()];
    arities.extend(above);
    arities
}

#[cfg(test)]
mod tests {
    use sealbus_schema::SectorSize;
    use storage_proofs_core::proof::ProofScheme;

    use super::*;

    /// What the library asks of a vanilla proof before it makes a SNARK.
    fn is_right<Tree: 'static + MerkleTreeTrait>(kind: RegisteredPoStProof, vanilla: &[u8]) -> bool {
        use storage_proofs_post::fallback::{FallbackPoSt, PublicInputs, PublicParams, PublicSector};
        let config = kind.as_v1_config();
        let params = PublicParams {
            sector_size: u64::from(config.sector_size),
            challenge_count: config.challenge_count,
            sector_count: 1,
            api_version: config.api_version,
        };
        let proof: FallbackPoStSectorProof<Tree> = deserialize(vanilla).expect("reads");
        let sectors = vec![PublicSector { id: proof.sector_id, comm_r: proof.comm_r }];
        let (randomness, prover_id) = (Default::default(), Default::default());
        let inputs = PublicInputs { randomness, prover_id, sectors, k: Some(0) };
        FallbackPoSt::<Tree>::verify(&params, &inputs, &proof.vanilla_proof).expect("checks")
    }

    #[test]
    fn the_made_up_proof_is_a_true_one_for_sectors_of_every_size() {
        for proof in SectorSize::ALL.map(SectorSize::seal_proof) {
            for kind in [PostKind::Window, PostKind::Winning] {
                let (_, vanilla) = vanilla(proof, kind).expect("makes");
                let kind = post::registered(proof, kind).expect("known");
                let right = with_shape!(proof.sector_size().bytes(), is_right, kind, &vanilla.0);
                assert!(right, "{kind:?}");
            }
        }
    }
}
