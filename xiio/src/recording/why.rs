//! Why something is cancelled, in the words of recordings and of the tree.

/// The reason of a cancellation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A handle of it was told so.
    AskedFor,
    /// A task's group is cancelled.
    WithGroup,
    MemberFailed,
    MemberPanicked,
    /// A race.
    MemberWon,
    TimeOver,
    /// By `?` and the like in a plain group.
    BodyLeft,
    AroundCancelled,
    /// Of a tree that another thread waits for.
    NotAwaited,
    /// Of a part of whoever is polled.
    LimitInside,
    Test,
}

impl Why {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AskedFor => "asked for",
            Self::WithGroup => "with its group",
            Self::MemberFailed => "a member failed",
            Self::MemberPanicked => "a member panicked",
            Self::MemberWon => "a member won",
            Self::TimeOver => "its time is over",
            Self::BodyLeft => "its body was left",
            Self::AroundCancelled => "what is around it was cancelled",
            Self::NotAwaited => "who awaits it on another thread was cancelled or has dropped it",
            Self::LimitInside => "a limit of time in it was over",
            Self::Test => "the test cancels it here",
        }
    }

    /// The same where it is known which member did it.
    pub(crate) fn of_member(self, member: impl std::fmt::Display) -> String {
        match self.as_str().strip_prefix("a member") {
            Some(deed) => format!("{member}{deed}"),
            None => self.as_str().into(),
        }
    }
}
