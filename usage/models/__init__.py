"""Models of the read model, in the order data moves: subscriptions, records, totals, runs."""

from usage.models.daily import (
    DailyUsage,
    LateKey,
    LiveDailyUsage,
    OpenDailyUsage,
    PeriodTotal,
    SealedDailyUsage,
)
from usage.models.records import DataUsageRecord, UsageType, VoiceUsageRecord
from usage.models.runs import RefreshRun, RefreshTally, UsageState
from usage.models.subscriptions import Subscription

__all__ = [
    "DailyUsage",
    "DataUsageRecord",
    "LateKey",
    "LiveDailyUsage",
    "OpenDailyUsage",
    "PeriodTotal",
    "RefreshRun",
    "RefreshTally",
    "SealedDailyUsage",
    "Subscription",
    "UsageState",
    "UsageType",
    "VoiceUsageRecord",
]
