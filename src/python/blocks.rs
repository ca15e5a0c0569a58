//! Blocks and states as Python values: tuples of the fields of `evbackup.Block`, `Header`, `Data` and `State`, in their order.

use crate::error::Result;
use crate::evnode::hash;
use crate::evnode::record::{self, Timestamp, Version};
use crate::flow::node::Block;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use pyo3::{IntoPyObject, IntoPyObjectExt as _};

/// What a block is found by.
#[derive(FromPyObject)]
pub(crate) enum Which {
    Height(u64),
    Hash(Vec<u8>),
}

/// A block with what is computed from it, away from the GIL.
pub(crate) struct Read {
    block: Block,
    header_hash: hash::Hash,
    index_hash: hash::Hash,
    data_hash: hash::Hash,
}

impl Read {
    pub(crate) fn of(block: Block) -> Result<Self> {
        let data_hash = hash::data(&block.transactions()?);
        let (header_hash, index_hash) = (block.hash()?, block.index_hash());
        Ok(Self { block, header_hash, index_hash, data_hash })
    }
}

pub(crate) fn python_block<'py>(py: Python<'py>, read: &Read) -> PyResult<Bound<'py, PyTuple>> {
    let block = &read.block;
    let signed = block.signed_header()?;
    let data = block.transactions()?;
    let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
    let header = &signed.header;
    let header = [
        any(header.height, py)?,
        any(header.time, py)?,
        any(header.chain_id, py)?,
        any(version(header.version), py)?,
        any(bytes(header.last_header_hash), py)?,
        any(bytes(header.data_hash), py)?,
        any(bytes(header.app_hash), py)?,
        any(bytes(header.proposer_address), py)?,
        any(bytes(header.validator_hash), py)?,
        any(bytes(header.legacy.last_commit_hash), py)?,
        any(bytes(header.legacy.consensus_hash), py)?,
        any(bytes(header.legacy.last_results_hash), py)?,
        any(bytes(signed.signature), py)?,
        any(bytes(signed.signer.address), py)?,
        any(bytes(signed.signer.public_key), py)?,
    ];
    let transactions = PyTuple::new(py, data.transactions().map(bytes).collect::<Vec<_>>())?;
    let metadata = data.metadata.as_ref();
    let data = (
        metadata.map(|metadata| metadata.chain_id),
        metadata.map(|metadata| metadata.height),
        metadata.map(|metadata| metadata.time),
        metadata.map(|metadata| bytes(metadata.last_data_hash)),
        transactions,
        bytes(&read.data_hash),
    );
    (
        block.height,
        bytes(&read.header_hash),
        bytes(&read.index_hash),
        PyTuple::new(py, header)?,
        data,
        block.header_da_height,
        block.data_da_height,
    )
        .into_pyobject(py)
}

/// Some blocks, and where to go on: `(blocks, next, stop)`; at the end next is None.
pub(crate) fn python_blocks(
    py: Python<'_>,
    (blocks, next, stop): (Vec<Read>, Option<u64>, u64),
) -> PyResult<Py<PyAny>> {
    let list = PyList::empty(py);
    for block in &blocks {
        list.append(python_block(py, block)?)?;
    }
    Ok((list, next, stop).into_pyobject(py)?.into_any().unbind())
}

pub(crate) fn python_state(py: Python<'_>, stored: &[u8]) -> PyResult<Py<PyAny>> {
    let state = record::State::decode(stored)?;
    let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
    let fields = [
        any(state.last_block_height, py)?,
        any(state.last_block_time.and_then(Timestamp::to_nanos), py)?,
        any(state.chain_id, py)?,
        any(version(state.version), py)?,
        any(state.initial_height, py)?,
        any(state.da_height, py)?,
        any(bytes(state.app_hash), py)?,
        any(bytes(state.last_header_hash), py)?,
        any(bytes(state.next_proposer_address), py)?,
        any(bytes(state.last_results_hash), py)?,
    ];
    Ok(PyTuple::new(py, fields)?.into_any().unbind())
}

fn version(version: Version) -> (u64, u64) {
    (version.block, version.app)
}

fn any<'py, T: IntoPyObject<'py>>(value: T, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    value.into_bound_py_any(py)
}
