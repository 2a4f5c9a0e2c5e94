"""Models of the read model, in the order data moves: subscriptions, records, totals, runs."""

from usage.models.daily import DailyUsage, OpenDailyUsage
from usage.models.records import DataUsageRecord, UsageType, VoiceUsageRecord
from usage.models.runs import RefreshRun, UsageState
from usage.models.subscriptions import Subscription

__all__ = [
    "DailyUsage",
    "DataUsageRecord",
    "OpenDailyUsage",
    "RefreshRun",
    "Subscription",
    "UsageState",
    "UsageType",
    "VoiceUsageRecord",
]
