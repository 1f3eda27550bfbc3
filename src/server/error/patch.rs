//! What the wire shows of patches and operations that are not applied.

use super::{ToWire, wire};
use crate::doc::{OperationsError, PatchError};
use crate::proto::message::WireError;

impl ToWire for PatchError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::Parse(error) => error.to_wire(),
            Self::Operation { .. } => wire(400, "bad_request", self),
            Self::TooManyOperations { .. } | Self::TooMuchWork { .. } => {
                wire(413, "too_large", self)
            }
            Self::Missing { .. } => wire(422, "unprocessable_content", self),
            Self::Test { .. } => wire(412, "precondition_failed", self),
        }
    }
}

impl ToWire for OperationsError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::Malformed { .. } => wire(400, "bad_request", self),
            Self::Shape { .. } => wire(422, "unprocessable_content", self),
            Self::Number { .. } => wire(412, "precondition_failed", self),
            Self::Parse(error) => error.to_wire(),
        }
    }
}
