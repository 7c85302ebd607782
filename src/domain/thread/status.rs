//! The statuses of a thread and the priorities of a request, as they are spelled on the wire.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::text::Invalid;

/// The phase that a status belongs to. The rules in `transition` refer to phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request waits for an executor to claim it.
    Open,
    /// An executor has claimed the request but not begun to work.
    Claimed,
    /// An executor works on the request or waits for something.
    Working,
    /// The request is over. No other status follows.
    Terminal,
}

macro_rules! wire_enum {
    ($(#[$doc:meta])* $type:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$vdoc])* $variant),+ }

        impl $type {
            /// Every value, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// How it is spelled on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn find(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }

            /// Reads a value given by a client in the field `path`.
            pub fn parse(text: &str, path: &str) -> Result<Self, Invalid> {
                Self::accept(text).ok_or_else(|| {
                    let all: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    Invalid::new(path, format!("must be one of {}", all.join(", ")))
                })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::accept(&text)
                    .ok_or_else(|| serde::de::Error::custom(concat!("unknown ", $what)))
            }
        }
    };
}

wire_enum! {
    /// The status of a thread.
    Status, "status" {
        /// Waiting for an executor.
        Pending = "pending",
        /// An executor has claimed it.
        Claimed = "claimed",
        /// The executor is working on it.
        InProgress = "in-progress",
        /// The executor waits for something else.
        Waiting = "waiting",
        /// It is put aside.
        Held = "held",
        /// An attempt failed, and another will follow.
        Retrying = "retrying",
        /// The executor has a question.
        NeedsInput = "needs_input",
        /// The executor asks whether to go on.
        NeedsConfirmation = "needs_confirmation",
        /// Done.
        Completed = "completed",
        /// Done in part.
        Partial = "partial",
        /// Tried without success.
        Failed = "failed",
        /// An executor refused it.
        Rejected = "rejected",
        /// Turned down.
        Declined = "declined",
        /// It was withdrawn.
        Cancelled = "cancelled",
        /// Its time has passed.
        Expired = "expired",
        /// Another request replaces it.
        Superseded = "superseded",
        /// It was handed to someone outside the exchange.
        Delegated = "delegated",
    }
}

impl Status {
    /// Finds the status for `text` in any accepted spelling.
    fn accept(text: &str) -> Option<Self> {
        match text {
            "in_progress" => Some(Self::InProgress),
            "canceled" => Some(Self::Cancelled),
            _ => Self::find(text),
        }
    }

    /// The phase that this status belongs to.
    pub fn phase(self) -> Phase {
        match self {
            Self::Pending => Phase::Open,
            Self::Claimed => Phase::Claimed,
            Self::InProgress
            | Self::Waiting
            | Self::Held
            | Self::Retrying
            | Self::NeedsInput
            | Self::NeedsConfirmation => Phase::Working,
            Self::Completed
            | Self::Partial
            | Self::Failed
            | Self::Rejected
            | Self::Declined
            | Self::Cancelled
            | Self::Expired
            | Self::Superseded
            | Self::Delegated => Phase::Terminal,
        }
    }

    /// Whether the thread is over.
    pub fn is_terminal(self) -> bool {
        self.phase() == Phase::Terminal
    }
}

wire_enum! {
    /// How urgent a request is, ordered from least to most.
    Priority, "priority" {
        /// To be done whenever there is time.
        Background = "background",
        /// The default.
        Normal = "normal",
        /// To be done soon.
        Elevated = "elevated",
        /// To be done now. It may wake people.
        Urgent = "urgent",
    }
}

impl Priority {
    fn accept(text: &str) -> Option<Self> {
        Self::find(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str(), "status"), Ok(*status));
        }
        assert_eq!(
            Status::parse("in_progress", "status"),
            Ok(Status::InProgress)
        );
        assert_eq!(Status::parse("canceled", "status"), Ok(Status::Cancelled));
        for bad in ["", "Pending", "done", "pending ", "__proto__"] {
            assert!(Status::parse(bad, "status").is_err(), "{bad}");
        }
    }

    #[test]
    fn phases() {
        let count = |phase| Status::ALL.iter().filter(|s| s.phase() == phase).count();
        assert_eq!(count(Phase::Open), 1);
        assert_eq!(count(Phase::Claimed), 1);
        assert_eq!(count(Phase::Working), 6);
        assert_eq!(count(Phase::Terminal), 9);
    }

    #[test]
    fn priorities_are_ordered() {
        assert!(Priority::Background < Priority::Normal);
        assert!(Priority::Elevated < Priority::Urgent);
    }
}
