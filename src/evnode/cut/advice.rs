//! What an operator must know of a datastore that was cut, and do before a node starts on it.

use super::Role;
use super::changes::Why;
use super::plan::Cut;
use crate::evnode::generation::Generation;
use crate::evnode::key::Mark;

/// What may go wrong.
pub(super) fn dangers(cut: &Cut) -> Vec<String> {
    let height = cut.height();
    let next = height.saturating_add(1);
    let produces = cut.options.role != Some(Role::Follower);
    let mut dangers = Vec::new();
    if produces {
        dangers.push(format!(
            "double production: two producers with one key, or one put back to {height} while block {next} is public, fork the chain"
        ));
        dangers.push(
            "Raft: a local height above Raft's, or another hash at the same height, is fatal at start"
                .to_owned(),
        );
    }
    let included = cut.facts.marks.get(&Mark::DaIncluded).copied().unwrap_or_default();
    if included > height && produces {
        dangers.push(format!(
            "blocks {next} to {included} are public on DA: a producer that starts at {height} contradicts them"
        ));
    }
    if cut.removed_transactions > 0 && !cut.options.requeue {
        dangers.push(format!(
            "the {} transactions of the blocks above {height} are in no queue any more: requeue=True puts them back",
            cut.removed_transactions
        ));
    }
    if cut.options.requeue {
        dangers.push(
            "what DA forced into the removed blocks is in the queue now and comes again from DA".to_owned(),
        );
    }
    if cut.facts.queue.too_many {
        dangers.push(
            "the queue has too many transactions to compare with the blocks: some may stand in both"
                .to_owned(),
        );
    }
    if cut.changes.any(|why| matches!(why, Why::Checkpoint(..) | Why::NoCheckpoint(_))) {
        dangers.push(
            "the sequencer's checkpoint is exact only if no epoch of forced inclusion was half consumed at this height"
                .to_owned(),
        );
    }
    if cut.da_guessed {
        dangers.push(format!(
            "forced inclusion: nothing says where the node stood on DA after block {height}, so its state has the DA height of the chain's first block \
             there, {}; if the genesis has a da_start_height and nothing of block {height} was on DA yet, what was forced in before is missed: \
             genesis= says where it starts",
            cut.da_height
        ));
    }
    let without_checkpoint =
        || cut.options.lacks_checkpoint || cut.changes.any(|why| matches!(why, Why::NoPlace));
    if produces && cut.da_height == 0 && without_checkpoint() {
        dangers.push(format!(
            "forced inclusion: nothing says where the node stood on DA after block {height}, and a sequencer that does not know it reads nothing from \
             DA: cut at the tip of a backup, or give genesis="
        ));
    }
    if let Some(generation) = cut.facts.generation() {
        dangers.push(format!(
            "downgrades: a release of {} or a newer one wrote this and must open it",
            generation.tags()
        ));
    }
    dangers
}

/// What is to be done.
pub(super) fn next_steps(cut: &Cut) -> Vec<String> {
    let height = cut.height();
    let mut steps = vec![format!(
        "execution layer: bring it to height {height}; a node of v1.0.0-rc.1 or later realigns reth at its start, an app's own database (the \
         test app's executor) must be rolled back by hand"
    )];
    let generation = cut.facts.generation();
    if matches!(generation, Some(Generation::C | Generation::D)) {
        steps.push(
            "caches: remove data/cache in the node's home, or start once with --evnode.clear_cache"
                .to_owned(),
        );
    }
    if cut.options.role != Some(Role::Follower) {
        steps.push("old producer: stop it for good before this one starts".to_owned());
        steps.push(
            "signer: put the signing key back (config/signer.json or the KMS settings); no backup has it"
                .to_owned(),
        );
        steps.push(
            "Raft: empty raft_dir on every member, and restore all members to the same height".to_owned(),
        );
        if matches!(generation, Some(Generation::E | Generation::F)) {
            steps.push(
                "catch up: without Raft, set node.catchup_timeout so that it first takes over what DA and peers have".to_owned(),
            );
        }
        if cut.da_height > 0 && (cut.facts.checkpoints || cut.options.lacks_checkpoint) {
            steps.push(
                "forced inclusion: start with a block time shorter than the DA layer's until it makes blocks: an epoch of DA blocks behind, it reads one \
                 of them in each block time, and with a longer one it never makes a block (seen with v1.2.2)"
                    .to_owned(),
            );
        }
    }
    steps
}
