//! What a folder of a zarr is: an array, a group of others, or nothing.

use serde_json::Value;

use super::super::{Decoded, Problem};
use super::array::Array;
use super::store::Store;

/// A folder of a zarr.
#[derive(Debug)]
pub(super) enum Node {
    Array(Box<Array>),
    /// With its attributes.
    Group(Value),
}

/// Reads what the folder `name` is; `None` for a folder without metadata, or none.
///
/// Where metadata of both versions is there, that of version 3 counts, as in zarr-python.
pub(super) fn node(store: &Store, name: &str) -> Decoded<Option<Node>> {
    if let Some(metadata) = store.metadata(name, "zarr.json")? {
        return match metadata["node_type"].as_str() {
            Some("array") => Ok(Some(Node::Array(Box::new(Array::of_version_3(name, &metadata)?)))),
            Some("group") => Ok(Some(Node::Group(metadata["attributes"].clone()))),
            _ => Err(Problem::unusable(format!(
                "{} is neither of a group nor of an array: its node_type is {}",
                super::store::joined(name, "zarr.json"),
                metadata["node_type"]
            ))),
        };
    }
    let attributes = store.metadata(name, ".zattrs")?;
    if let Some(metadata) = store.metadata(name, ".zarray")? {
        let attributes = attributes.unwrap_or_default();
        return Ok(Some(Node::Array(Box::new(Array::of_version_2(store, name, &metadata, &attributes)?))));
    }
    match (attributes, store.metadata(name, ".zgroup")?) {
        (None, None) => Ok(None),
        (attributes, _) => Ok(Some(Node::Group(attributes.unwrap_or_default()))),
    }
}

/// The attributes of OME in those of a group: under `ome` since version 0.5.
pub(super) fn ome(attributes: &Value) -> &Value {
    if attributes["ome"].is_object() { &attributes["ome"] } else { attributes }
}
