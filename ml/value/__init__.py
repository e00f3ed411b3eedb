"""Customer value (客户价值): what a subscription is expected to bring over the horizon."""

from ml.value.margin import monthly_margins
from ml.value.value import (
    PeerGroup,
    ValueParameters,
    annuity,
    peer_groups,
    segment,
    value_at_risk,
    value_of,
)

__all__ = [
    "PeerGroup",
    "ValueParameters",
    "annuity",
    "monthly_margins",
    "peer_groups",
    "segment",
    "value_at_risk",
    "value_of",
]
