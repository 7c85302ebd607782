//! Requests: services post, change, list and read them, and settle what follows a commit.

pub mod commit;
pub mod create;
pub mod list;
pub mod read;
pub mod settle;
pub mod update;
pub mod view;
