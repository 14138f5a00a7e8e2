//! One branch of a query, from "being looked up" to its place in the combination table.

use super::flights::Flight;
use crate::cache::DaneVerdict;
use crate::clock::Instant;
use crate::policy::decision::{DaneView, StsView};
use crate::policy::merge::Sts;

/// One branch of a query.
pub(super) enum Branch<V, T: Clone> {
    /// Turned off, or there is none for this next hop.
    Off,
    /// As it stands.
    Known(V),
    /// Being looked up; where there is a view already, it is used when that takes too long.
    Waiting(Flight<T>, Option<V>),
    /// There seems to be nothing, which has to be proven before it counts; the lookup began then.
    Unproven(Instant),
}

impl<T: Clone> Branch<DaneView, T> {
    /// Its row in the combination table, once known.
    pub(super) fn verdict(&self) -> Option<DaneVerdict> {
        match self {
            Self::Off => Some(DaneVerdict::None),
            Self::Known(view) => Some(view.entry.verdict),
            Self::Waiting(..) | Self::Unproven(_) => None,
        }
    }
}

impl<T: Clone> Branch<StsView, T> {
    /// Its column in the combination table, once known.
    pub(super) fn column(&self, strict_testing: bool) -> Option<Sts> {
        match self {
            Self::Off => Some(Sts::None),
            Self::Known(view) => Some(view.standing.column(strict_testing)),
            Self::Waiting(..) | Self::Unproven(_) => None,
        }
    }
}

impl<V: Clone, T: Clone> Branch<V, T> {
    pub(super) fn view(&self) -> Option<V> {
        match self {
            Self::Off | Self::Unproven(_) => None,
            Self::Known(view) => Some(view.clone()),
            Self::Waiting(_, fallback) => fallback.clone(),
        }
    }

    /// When the lookup began that is waited for.
    pub(super) fn started(&self) -> Option<Instant> {
        match self {
            Self::Off | Self::Known(_) => None,
            Self::Waiting(flight, _) => Some(flight.started),
            Self::Unproven(started) => Some(*started),
        }
    }

    /// Whether the lookup that is waited for began for this question.
    pub(super) fn is_first(&self) -> bool {
        matches!(self, Self::Waiting(flight, _) if flight.is_first)
    }

    /// When it began, where there is nothing to use instead.
    pub(super) fn alone_since(&self) -> Option<Instant> {
        match self {
            Self::Waiting(flight, None) => Some(flight.started),
            Self::Off | Self::Known(_) | Self::Waiting(_, Some(_)) | Self::Unproven(_) => None,
        }
    }

    /// When it began, where there is something to use instead.
    pub(super) fn fallback_since(&self) -> Option<Instant> {
        match self {
            Self::Waiting(flight, Some(_)) => Some(flight.started),
            Self::Off | Self::Known(_) | Self::Waiting(_, None) | Self::Unproven(_) => None,
        }
    }

    /// The same once the lookup found that there seems to be nothing.
    pub(super) fn unproven(self) -> Self {
        match self {
            Self::Waiting(flight, _) => Self::Unproven(flight.started),
            other => other,
        }
    }

    pub(super) fn give_up_waiting(self) -> Self {
        match self {
            Self::Waiting(_, Some(view)) => Self::Known(view),
            other => other,
        }
    }

    /// Waits for the lookup; for ever where there is none.
    pub(super) async fn landed(&self) -> Option<T> {
        match self {
            Self::Off | Self::Known(_) | Self::Unproven(_) => std::future::pending().await,
            Self::Waiting(flight, _) => flight.clone().landed().await,
        }
    }
}
