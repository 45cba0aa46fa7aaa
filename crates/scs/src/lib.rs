//! The Solution Control Server around the decision core (being written).

pub mod handle;
pub mod store;
