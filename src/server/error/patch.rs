//! What the wire shows of patches that are not applied.

use super::{ToWire, wire};
use crate::doc::PatchError;
use crate::proto::message::WireError;

impl ToWire for PatchError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::Parse(error) => error.to_wire(),
            Self::Operation { .. } => wire(400, "bad_request", self),
            Self::TooManyOperations { .. } => wire(413, "too_large", self),
            Self::Missing { .. } => wire(422, "unprocessable_content", self),
            Self::Test { .. } => wire(412, "precondition_failed", self),
        }
    }
}
