//! How a member was woken, and how a member has ended, in the words of recordings. An event keeps a byte of it.

/// What has woken a member: another one, or what the loop is at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Task,
    Descriptor,
    Thread,
    Timer,
    Loop,
}

impl How {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Task => "a task",
            Self::Descriptor => "a descriptor",
            Self::Thread => "another thread",
            Self::Timer => "a timer",
            Self::Loop => "the loop",
        }
    }
}

/// How a member has ended.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// A group, or who works for one.
    Plain,
    Value,
    Failure,
    Cancelled,
    Panic,
    /// With the group.
    Dropped,
}

impl End {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "ended",
            Self::Value => "a value",
            Self::Failure => "a failure",
            Self::Cancelled => "cancelled",
            Self::Panic => "a panic",
            Self::Dropped => "dropped",
        }
    }
}
