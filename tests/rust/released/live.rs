use super::node::Node;
use super::*;
use crate::proof::{block_on, in_memory, put, restore_to};
use evbackup::error::Kind;
use evbackup::evnode::sample::Stage;
use evbackup::rpc::Connect;
use evbackup::verify::{Report, Severity, live as verb};

async fn held(address: SocketAddr, against: &[PathBuf], sample: usize) -> Result<Report> {
    let mut connect = Connect::new(address.to_string().parse().unwrap());
    connect.idle_timeout = Duration::from_secs(2);
    let options =
        verb::Options { connect: Box::new(connect), against: against.to_vec(), sample, trusted: None };
    verb::run(options, Progress::new()).await
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
        let stranger = |stage: Stage, draft: &mut evbackup::evnode::sample::Draft| {
            if stage == Stage::Made {
                draft.chain_id = "stranger-1".to_owned();
                draft.data_hash = commitment(draft.transactions.as_slice());
            }
        };
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
        let against = backups(address, folder.path()).await.remove(0);
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
            let options = verb::Options {
                connect: Box::new(Connect::new(address.to_string().parse().unwrap())),
                against: Vec::new(),
                sample: 2,
                trusted: Some((13, hash)),
            };
            assert_eq!(codes(&verb::run(options, Progress::new()).await.unwrap()), expected);
        }
    });
}
