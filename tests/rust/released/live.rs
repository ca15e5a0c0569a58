use super::node::Node;
use super::*;
use crate::proof::{block_on, in_memory, put, restore_to};
use evbackup::entry::Sink as _;
use evbackup::error::Kind;
use evbackup::evnode::chain::Signatures;
use evbackup::evnode::sample::Stage;
use evbackup::rpc::Connect;
use evbackup::verify::{Report, Severity, live as verb};

async fn held(address: SocketAddr, against: &[PathBuf], sample: usize) -> Result<Report> {
    verb::run(asked(address, against, sample), Progress::new()).await
}

fn asked(address: SocketAddr, against: &[PathBuf], sample: usize) -> verb::Options {
    let mut connect = Connect::new(address.to_string().parse().unwrap());
    connect.idle_timeout = Duration::from_secs(6);
    verb::Options {
        connect: Box::new(connect),
        against: against.to_vec(),
        sample,
        trusted: None,
        signatures: Signatures::Required,
    }
}

fn codes(report: &Report) -> Vec<(&'static str, Option<u64>)> {
    report.findings.iter().map(|finding| (finding.code, finding.height)).collect()
}

/// A backup of the first 60 blocks of a node, as segments, without manifests, and as a store.
async fn backups(address: SocketAddr, folder: &Path) -> Vec<Vec<PathBuf>> {
    let full = folder.join("full");
    copy(address, &full, Since::Version(0)).await.unwrap();
    let bare = folder.join("bare");
    put(&bare, &std::fs::read(&full).unwrap());
    restore_to(std::slice::from_ref(&full), &folder.join("store")).await.unwrap();
    vec![vec![full], vec![bare], vec![folder.join("store")]]
}

#[test]
fn a_node_is_what_its_backup_says_and_another_is_not() {
    block_on(async {
        let folder = in_memory();
        let node = Node::new(Sample::with_blocks(60));
        let address = node.start().await;
        let backups = backups(address, folder.path()).await;
        node.world().sample.extend(5, |_, _| {});
        // From block 31 on of another making.
        let mut turned = Sample::with_blocks(30);
        turned.extend(40, |stage, draft| {
            if stage == Stage::Made {
                draft.validator_hash = vec![1];
            }
        });
        let turned = Node::new(turned).start().await;
        let mut other = Sample::new(1);
        other.extend(60, stranger);
        let other = Node::new(other).start().await;
        for against in &backups {
            let report = held(address, against, 10).await.unwrap();
            assert!(report.ok && report.findings.is_empty(), "{:?}", report.findings);
            assert_eq!((report.announced_height, report.tip_height, report.complete_height), (65, 60, 60));
            let report = held(turned, against, 7).await.unwrap();
            assert!(!report.ok);
            let expected: Vec<_> = [40, 50, 60].map(|height| ("live-header", Some(height))).into();
            assert_eq!(codes(&report), expected, "{against:?}");
            assert!(report.findings[0].message.starts_with("block 40: expected header hash "));
            assert_eq!(report.complete_height, 30);
            let report = held(other, against, 7).await.unwrap();
            assert_eq!(codes(&report), [("live-chain-id", None)]);
        }
    });
}

fn stranger(stage: Stage, draft: &mut evbackup::evnode::sample::Draft) {
    if stage == Stage::Made {
        draft.chain_id = "stranger-1".to_owned();
        draft.data_hash = commitment(draft.transactions.as_slice());
    }
}

fn commitment(transactions: &[Vec<u8>]) -> Vec<u8> {
    let mut data = Vec::new();
    for transaction in transactions {
        data.push(0x12);
        evbackup::base::cursor::put_uvarint(&mut data, transaction.len() as u64);
        data.extend(transaction);
    }
    let data = evbackup::evnode::record::Data::decode(&data).unwrap();
    evbackup::evnode::hash::commitment(&data).to_vec()
}

#[test]
fn what_is_wrong_with_the_node_itself_is_named_with_its_height() {
    block_on(async {
        let folder = in_memory();
        let sample = Sample::with_blocks(60);
        let whole = Node::new(sample.clone()).start().await;
        let against = backups(whole, folder.path()).await.remove(0);
        for against in [against, Vec::new()] {
            let lying = Node::new(sample.clone()).mangled(|height, header, _| {
                if height == 30 {
                    header[70] ^= 1;
                }
            });
            let report = held(lying.start().await, &against, 60).await.unwrap();
            assert_eq!(codes(&report), [("live-block", Some(30))]);

            let mut holed = sample.clone();
            holed.remove(b"/0/d/20");
            let report = held(Node::new(holed).start().await, &against, 60).await.unwrap();
            assert_eq!(codes(&report), [("live-missing", Some(20))]);

            let mut broken = Sample::with_blocks(39);
            broken.extend(1, |stage, draft| {
                if stage == Stage::Made {
                    draft.last_header_hash = vec![7; 32];
                }
            });
            let report = held(Node::new(broken).start().await, &against, 60).await.unwrap();
            let found = codes(&report);
            assert!(found.contains(&("live-link", Some(40))), "{found:?}");
        }
    });
}

#[test]
fn heights_that_only_one_has_are_said_not_compared() {
    block_on(async {
        let folder = in_memory();
        let node = Node::new(Sample::with_blocks(60));
        let address = node.start().await;
        let backups = backups(address, folder.path()).await;
        let against = backups[0].clone();
        let behind = Node::new(Sample::with_blocks(40)).start().await;
        let report = held(behind, &against, 10).await.unwrap();
        assert_eq!(codes(&report), [("live-behind", Some(40))]);
        assert!(report.ok && report.findings[0].level == Severity::Warning);
        assert_eq!(report.complete_height, 40);
        {
            let sample = &mut node.world().sample;
            sample.extend(30, |_, _| {});
            sample.prune(70);
        }
        let report = held(address, &against, 10).await.unwrap();
        assert_eq!(codes(&report), [("live-apart", Some(90))]);
        assert!(!report.ok, "nothing was compared with what was to be");
        // Another chain is told, whatever its heights.
        let mut other = Sample::new(100);
        other.extend(20, stranger);
        let other = Node::new(other).start().await;
        for against in &backups {
            let report = held(other, against, 7).await.unwrap();
            assert_eq!(codes(&report), [("live-chain-id", None)], "{against:?}");
        }
        node.world().sample = Sample::new(1);
        assert_eq!(held(address, &against, 10).await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(held(behind, &against, 1_000_000).await.unwrap_err().kind(), Kind::Invalid);
        assert_eq!(held(behind, &[folder.path().join("none")], 1).await.unwrap_err().kind(), Kind::Missing);
    });
}

#[test]
fn a_hash_that_the_operator_trusts_is_asked_for() {
    block_on(async {
        let node = Node::new(Sample::with_blocks(20));
        let address = node.start().await;
        let block = {
            let world = node.world();
            let value = |key: &[u8]| world.sample.value(key).unwrap().to_vec();
            evbackup::evnode::block::Block::read(13, &value(b"/0/h/13"), &value(b"/0/d/13")).unwrap()
        };
        let hash = evbackup::flow::hasher::hex(&block.hash);
        for (hash, expected) in [(hash, vec![]), ("00".repeat(32), vec![("live-trusted", Some(13))])] {
            for hash in [hash.clone(), format!("0x{}", hash.to_uppercase())] {
                let options = verb::Options { trusted: Some((13, hash)), ..asked(address, &[], 2) };
                assert_eq!(codes(&verb::run(options, Progress::new()).await.unwrap()), expected);
            }
        }
        node.world().asked.clear();
        let odd = verb::Options { trusted: Some((13, "12".to_owned())), ..asked(address, &[], 2) };
        let error = verb::run(odd, Progress::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "expected a trusted hash of 64 hex digits, found \"12\"");
        assert!(node.world().asked.is_empty(), "the node was asked all the same");
    });
}

/// Blocks of a based sequencer up to a height, signed ones above, of which the first names another block before it.
pub(super) fn once_based(based: u64, blocks: u64, broken: &[u64]) -> Sample {
    let mut sample = Sample::new(1);
    sample.extend(blocks, |stage, draft| match stage {
        Stage::Made if broken.contains(&draft.height) => draft.last_header_hash = vec![7; 32],
        Stage::Signed if draft.height <= based => {
            draft.signature.clear();
            draft.signature_beside.clear();
            draft.signer_key.clear();
        }
        _ => {}
    });
    sample
}

#[test]
fn blocks_that_nobody_has_signed_are_told_unless_they_may_be() {
    block_on(async {
        let node = Node::new(once_based(10, 20, &[])).start().await;
        let report = held(node, &[], 3).await.unwrap();
        assert_eq!(codes(&report), [("live-unsigned", Some(1)), ("live-unsigned", Some(10))]);
        assert!(!report.ok);
        let optional = verb::Options { signatures: Signatures::Optional, ..asked(node, &[], 3) };
        let report = verb::run(optional, Progress::new()).await.unwrap();
        assert!(report.ok && report.findings.is_empty(), "{:?}", report.findings);

        let mut foreign = Sample::new(1);
        foreign.extend(20, |stage, draft| match stage {
            Stage::Made => draft.validator_hash = vec![1; 32],
            Stage::Signed => {
                draft.signature = vec![7; 64];
                draft.signature_beside = vec![7; 64];
            }
            Stage::State => {}
        });
        let node = Node::new(foreign).start().await;
        let report = held(node, &[], 3).await.unwrap();
        assert_eq!(codes(&report), [("live-unverified", Some(1))], "it is said once");
        assert!(report.ok && report.findings[0].message.contains("3 blocks"), "{:?}", report.findings);
    });
}

#[test]
fn the_link_that_breaks_behind_a_based_sequencer_is_a_warning_once() {
    block_on(async {
        let ask = async |sample: Sample| {
            let node = Node::new(sample).start().await;
            let options = verb::Options { signatures: Signatures::Optional, ..asked(node, &[], 20) };
            verb::run(options, Progress::new()).await.unwrap()
        };
        let report = ask(once_based(10, 20, &[11])).await;
        assert_eq!(codes(&report), [("live-link", Some(11))]);
        assert!(report.ok && report.findings[0].level == Severity::Warning);
        for broken in [9, 14] {
            let report = ask(once_based(10, 20, &[11, broken])).await;
            let errors: Vec<_> = report
                .findings
                .iter()
                .filter(|one| one.level == Severity::Error)
                .map(|one| one.height)
                .collect();
            assert_eq!(errors, [Some(broken)]);
        }
    });
}

/// Where signatures are required no block before it may be unsigned, so that nothing excuses the link.
#[test]
fn a_broken_link_is_an_error_where_signatures_are_required() {
    block_on(async {
        let node = Node::new(once_based(10, 20, &[11])).start().await;
        for (signatures, level) in
            [(Signatures::Required, Severity::Error), (Signatures::Optional, Severity::Warning)]
        {
            // Of 1, 3, 6, 9, 11, 14, 17, 20 the link of 11 to 10 is one.
            let report =
                verb::run(verb::Options { signatures, ..asked(node, &[], 8) }, Progress::new()).await;
            let report = report.unwrap();
            let link: Vec<_> = report.findings.iter().filter(|one| one.code == "live-link").collect();
            assert_eq!(
                link.iter().map(|one| (one.height, one.level)).collect::<Vec<_>>(),
                [(Some(11), level)]
            );
            assert!(!codes(&report).contains(&("live-unsigned", Some(10))));
        }
    });
}

/// The chain's name then is in the blocks.
#[test]
fn a_manifest_without_a_chain_id_does_not_hide_another_chain() {
    block_on(async {
        let folder = in_memory();
        let node = Node::new(Sample::with_blocks(60)).start().await;
        let full = folder.path().join("full");
        copy(node, &full, Since::Version(0)).await.unwrap();
        let known = manifest(&full);
        assert!(known.chain_id.is_some());
        let unnamed = evbackup::repo::manifest::Manifest { chain_id: None, ..known };
        put(&pair::manifest_path(&full), &unnamed.encode().unwrap());
        assert_eq!(manifest(&full).chain_id, None);
        let mut other = Sample::new(1);
        other.extend(60, stranger);
        let other = Node::new(other).start().await;
        let report = held(other, std::slice::from_ref(&full), 7).await.unwrap();
        assert_eq!(codes(&report), [("live-chain-id", None)]);
        let report = held(node, &[full], 7).await.unwrap();
        assert!(report.ok && report.findings.is_empty(), "{:?}", report.findings);
    });
}

/// Of a bare segment nobody knows what was announced: what it is whole to is where the first of its families ends.
#[test]
fn of_a_torn_segment_without_a_manifest_only_what_is_whole_is_compared() {
    block_on(async {
        let folder = in_memory();
        let sample = Sample::with_blocks(60);
        let node = Node::new(sample.clone()).start().await;
        for torn in ["/0/d/59 /0/d/60", "/0/c/60 /0/c/59", "/0/h/59 /0/h/60 /0/d/60"] {
            let mut stream = Vec::new();
            let mut writer = Box::new(evbackup::format::Writer::new(1, |frame: &mut Vec<u8>| {
                stream.append(frame);
                Ok(())
            }));
            let gone: Vec<_> = torn.split(' ').map(str::as_bytes).collect();
            for entry in sample.entries().filter(|entry| !gone.contains(&entry.key)) {
                writer.put(entry).unwrap();
            }
            writer.finish().unwrap();
            let bare = folder.path().join("torn");
            put(&bare, &stream);
            let report = held(node, &[bare], 60).await.unwrap();
            assert!(report.ok && report.findings.is_empty(), "{torn}: {:?}", report.findings);
            assert_eq!(report.tip_height, 58);
        }
    });
}
